"""What measures are taken on, and what they share: results, and shares of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lqf.report import paper
from lqf.report.aggregate_errors import relative_to
from lqf.report.statistics import Estimate, Values

SIGN_INTERVAL = "data sets counted by the 95 % t interval over seeds of each"


class NotTested(ValueError):
    """The results hold nothing that the measure could be taken on."""


class Results:
    """The aggregated CSVs of one scale.

    Args:
        folder: results/<scale>.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, name: str) -> pd.DataFrame:
        """Returns the rows of a CSV.

        Args:
            name: Its file name.

        Returns:
            Its rows.

        Raises:
            NotTested: There is no such file: the experiment was not run.
        """
        if name not in self._frames:
            path = self._folder / name
            if not path.is_file():
                raise NotTested(f"{name} is not among the results")
            self._frames[name] = pd.read_csv(path)
        return self._frames[name]


class PaperResults(Results):
    """The printed Tables 1 and 2 in the form of our own results, to test claims on them too."""

    def __init__(self) -> None:
        super().__init__(Path())
        for name, table in (("comparison", paper.TABLE1), ("fine_grained", paper.TABLE2)):
            rows = pd.DataFrame(
                [
                    {
                        "dataset": dataset,
                        "title": dataset,
                        "group": paper.GROUPS[dataset],
                        "distance": "",
                        "method": method,
                        "seed": 0,
                        "n_seeds": 1,
                        "err_mean": error,
                        "err_mean_on_test": error,
                        "test_err": error,
                    }
                    for dataset, errors in table.items()
                    for method, error in errors.items()
                ]
            )
            self._frames |= {f"{name}.csv": rows, f"{name}_runs.csv": rows}
        self._frames["relative.csv"] = relative_to(self._frames["comparison.csv"], "nlft")


def certain_share(verdicts: Sequence[tuple[bool, bool, bool]]) -> Estimate:
    """Share of data sets: as measured, certainly, and possibly.

    Args:
        verdicts: These three of each data set.

    Returns:
        The share of data sets, with certain and possible ones as its interval.

    Raises:
        NotTested: There is no data set.
    """
    if not verdicts:
        raise NotTested("no data set has the methods asked for")
    value, low, high = np.mean(np.array(verdicts, dtype=float), axis=0)
    return Estimate(float(value), float(low), float(high), len(verdicts), SIGN_INTERVAL)


def below(gap: Estimate, bound: float) -> tuple[bool, bool, bool]:
    """Whether a difference is below a bound.

    Args:
        gap: The difference, with its interval.
        bound: The bound.

    Returns:
        Whether it is so as measured, certainly, and possibly.
    """
    if np.isnan(gap.low):
        return gap.value < bound, False, True
    return gap.value < bound, gap.high < bound, gap.low < bound


def columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Picks columns of a table.

    Args:
        table: The table.
        names: Its columns wanted.

    Returns:
        These columns, in this order.

    Raises:
        NotTested: One of them is missing.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise NotTested(f"there are no results of {missing}")
    return table[list(names)]


def mean(rows: Values) -> float:
    """Returns the mean of all entries."""
    return float(rows.mean())


def median(rows: Values) -> float:
    """Returns the median of all entries."""
    return float(np.median(rows))
