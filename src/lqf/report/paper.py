"""The numbers that the paper prints (arXiv 2012.11140); test errors in %.

What is known to be wrong in print:

- Table 2's column "GaF" repeats Table 1's column FC (29.2, 54.2, 47.3), not its column GaF
  (28.4, 48.4, 39.4). It is stored here as FC; Table 1's GaF stands beside it.
- Figure 1's medians in the caption (12, 42, 47, 71) are those of Table 1 up to rounding:
  12.7, 42.5, 47.4, 70.3.
- "LQF beats linear methods on all datasets" (§3) is not so in Table 1: on Stanford Dogs FC has
  9.9, GaF 10.5, LQF 12.4.
"""

from __future__ import annotations

from typing import Literal

_COLUMNS = ("nlft", "lqf", "lqf_fc", "gaf", "fc")
_TABLE1 = {
    "Caltech-256": (14.1, 14.5, 17.4, 15.4, 15.7),
    "Chest X-Ray": (4.6, 7.1, 8.3, 9.5, 11.2),
    "Malaria": (3.2, 4.1, 5.5, 4.8, 6.4),
    "MIT-67": (20.5, 20.7, 24.7, 23.1, 24.3),
    "Oxford Pets": (6.7, 6.9, 7.7, 7.4, 7.7),
    "Stanford Dogs": (13.8, 12.4, 12.9, 10.5, 9.9),
    "Oxford Flowers": (7.1, 7.1, 9.7, 13.3, 13.6),
    "CUB-200": (19.6, 24.0, 29.1, 28.4, 29.2),
    "FGVC-Aircraft": (14.5, 34.5, 43.8, 48.4, 54.2),
    "Stanford Cars": (9.6, 27.1, 39.2, 39.4, 47.3),
}

TABLE1: dict[str, dict[str, float]] = {
    name: dict(zip(_COLUMNS, errors, strict=True)) for name, errors in _TABLE1.items()
}
"""Table 1: data set -> method -> test error in %."""

GROUPS: dict[str, Literal["coarse", "fine"]] = {
    name: "coarse" if number < 5 else "fine" for number, name in enumerate(_TABLE1)
}
"""Table 1's two groups of data sets."""

_BILINEAR = {"CUB-200": (17.0, 17.1), "FGVC-Aircraft": (15.4, 29.2), "Stanford Cars": (9.1, 16.3)}

TABLE2: dict[str, dict[str, float]] = {
    name: {**TABLE1[name], "mpn_cov": mpn_cov, "b_lqf": b_lqf}
    for name, (mpn_cov, b_lqf) in _BILINEAR.items()
}
"""Table 2, with the mislabelled column as FC and Table 1's GaF and LQF-FC beside it."""

TABLE2_NOTE = (
    'The column that the paper calls "GaF" holds the numbers of Table 1\'s FC (29.2, 54.2, 47.3) '
    "and is shown as FC; the paper's GaF is taken from Table 1."
)

MEDIANS: dict[str, float] = {"lqf": 12, "lqf_fc": 42, "gaf": 47, "fc": 71}
"""Median relative increase of the error over NLFT in %, as Figure 1's caption prints them."""

CONDITION: dict[str, float] = {"init": 1482.4, "end": 179.7}
"""Condition number before and after non-linear fine-tuning (Figure 3)."""


def error(table: Literal["table1", "table2"], dataset: str, method: str) -> float | None:
    """Returns a printed test error in %, or None if the table has no such cell."""
    rows = TABLE1 if table == "table1" else TABLE2
    return rows.get(dataset, {}).get(method)
