"""What measures are taken on: our results, and the paper's printed tables in the same form."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lqf.report import paper
from lqf.report.aggregate_errors import relative_to


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
