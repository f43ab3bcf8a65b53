"""What measures are taken on, and what they share: results, and shares of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lqf.report import paper
from lqf.report.aggregate_errors import relative_to
from lqf.report.statistics import Estimate

SIGN_INTERVAL = "data sets counted by the 95 % t interval over seeds of each"


class NotTested(ValueError):
    """The results hold nothing that the measure could be taken on."""


class Results:
    """The aggregated CSVs of one scale, in a folder results/<scale>."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, name: str) -> pd.DataFrame:
        """Returns the rows of a CSV.

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
                    (dataset, dataset, paper.GROUPS[dataset], "", method, 0, 1, *3 * (error,))
                    for dataset, errors in table.items()
                    for method, error in errors.items()
                ],
                columns=[
                    *("dataset", "title", "group", "distance", "method", "seed", "n_seeds"),
                    *("err_mean", "err_mean_on_test", "test_err"),
                ],
            )
            self._frames |= {f"{name}.csv": rows, f"{name}_runs.csv": rows}
        self._frames["relative.csv"] = relative_to(self._frames["comparison.csv"], "nlft")


def certain_share(verdicts: Sequence[tuple[bool, bool, bool]]) -> Estimate:
    """Share of data sets, with certain and possible ones as its interval.

    Args:
        verdicts: Of each data set: as measured, certainly, and possibly.

    Raises:
        NotTested: There is no data set.
    """
    if not verdicts:
        raise NotTested("no data set has the methods asked for")
    value, low, high = np.mean(np.array(verdicts, dtype=float), axis=0)
    return Estimate(float(value), float(low), float(high), len(verdicts), SIGN_INTERVAL)


def below(gap: Estimate, bound: float) -> tuple[bool, bool, bool]:
    """Whether a difference is below a bound as measured, certainly, and possibly."""
    if np.isnan(gap.low):
        return gap.value < bound, False, True
    return gap.value < bound, gap.high < bound, gap.low < bound


def columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Picks columns of a table, in this order.

    Raises:
        NotTested: One of them is missing.
    """
    if missing := [name for name in names if name not in table.columns]:
        raise NotTested(f"there are no results of {missing}")
    return table[list(names)]
