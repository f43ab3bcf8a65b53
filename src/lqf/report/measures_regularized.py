"""What claims measure where regularisers of NLFT stand beside exact LQF; see `lqf.report.measures`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lqf.report.measured import NotTested, Results
from lqf.report.statistics import Estimate, bootstrap


def noise_cost(results: Results, method: str) -> Estimate:
    """What wrong labels cost a method more than whichever other one they cost least, in points of error.

    The cost is the error with the most wrong labels minus that with none, on as many images a class, in the
    mean over data sets. Negative if the method loses least.

    Raises:
        NotTested: No labels were wrong.
    """
    rows = results.frame("regularized.csv")
    most = rows["noise"].max()
    if not most:
        raise NotTested("regularized has no wrong labels")
    noisy = rows[rows["noise"] == most]
    clean = rows[(rows["noise"] == 0) & rows["shots"].isin(noisy["shots"])]
    costs = (_table(noisy) - _table(clean)).dropna()
    own, others = _apart(costs, method, [str(name) for name in costs if name != method])
    return bootstrap(np.hstack([own, others]), lambda r: (r[:, :1] - r[:, 1:]).mean(axis=0).max())


def regularized_gap(results: Results, reference: str, at: int) -> Estimate:
    """Error of the best regulariser of NLFT minus that of a reference, in points, with `at` images a class.

    The mean over data sets; the best regulariser is the one with the least. Positive if none closes the gap.
    """
    rows = results.frame("regularized.csv")
    rows = rows[(rows["noise"] == 0) & (rows["shots"].astype(str) == str(at))]
    names = sorted(set(rows.loc[rows["regularizer"] != "none", "method"]))
    own, others = _apart(_table(rows).dropna(), reference, names)
    return bootstrap(np.hstack([own, others]), lambda r: (r[:, 1:] - r[:, :1]).mean(axis=0).min())


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot(index="dataset", columns="method", values="err_mean")


def _apart(table: pd.DataFrame, method: str, others: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The column of a method and those of others.

    Raises:
        NotTested: One side is missing.
    """
    if method not in table or not others:
        raise NotTested(f"regularized does not have {method} and something beside it")
    return table[[method]].to_numpy(), table[others].to_numpy()
