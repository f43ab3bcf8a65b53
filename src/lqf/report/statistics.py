"""The few statistics that tables, figures and claims share, each with the name of its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.typing import SeriesGroupBy
from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

Values = NDArray[np.float64]

T_INTERVAL = "95 % t interval over seeds"
BOOTSTRAP_INTERVAL = "95 % percentile bootstrap over data sets"
RESAMPLES = 10_000
FEWEST_ROWS = 4
"""Fewer rows than these have no bootstrap interval: resampling two or three says nothing."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where it cannot be known.

    Attributes:
        n: Number of seeds or data sets behind it.
        interval: Name of the interval, with what was resampled or repeated.
    """

    value: float
    low: float
    high: float
    n: int
    interval: str


def relative_increase(error: ArrayLike, reference: ArrayLike) -> Values:
    """Relative increase of an error over a reference, (error − reference) / reference, in %.

    NaN where the reference makes no error at all (LQF Figure 1).
    """
    error = np.asarray(error, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    safe = np.where(reference > 0, reference, np.nan)
    return (error - reference) / safe * 100


def summed_up(name: str, values: SeriesGroupBy) -> pd.DataFrame:
    """Mean, standard deviation (n − 1) and 95 % t interval of groups, as columns of an aggregated CSV.

    What is missing is not counted; fewer than two values have a mean alone.
    """
    mean, spread, n = values.mean(), values.std(), values.count()
    half = stdtrit(n - 1.0, 0.975) * spread / np.sqrt(n)
    columns = {"mean": mean, "std": spread, "low": mean - half, "high": mean + half}
    return pd.DataFrame({**{f"{name}_{key}": one for key, one in columns.items()}, "n_seeds": n})


def t_interval(values: ArrayLike, interval: str = T_INTERVAL) -> Estimate:
    """Mean with Student's 95 % interval, which is NaN for fewer than two values.

    What is not finite is left out and not counted.
    """
    kept = np.asarray(values, dtype=np.float64).ravel()
    kept = kept[np.isfinite(kept)]
    if len(kept) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, interval)
    mean, half = float(kept.mean()), float("nan")
    if len(kept) > 1:
        half = float(stdtrit(len(kept) - 1, 0.975) * kept.std(ddof=1) / np.sqrt(len(kept)))
    return Estimate(mean, mean - half, mean + half, len(kept), interval)


def bootstrap(
    table: ArrayLike,
    statistic: Callable[[Values], Any],
    interval: str = BOOTSTRAP_INTERVAL,
    groups: Sequence[str] | None = None,
) -> Estimate:
    """A statistic of rows, with a percentile bootstrap over the rows from a fixed seed.

    Args:
        table: One row a data set, M × anything.
        statistic: Maps such a table (of M rows, some repeated) to a number.
        interval: Its name.
        groups: Group of each row; rows are then drawn within their group.

    Returns:
        The statistic of the table itself and its 95 % interval, NaN for fewer than
        `FEWEST_ROWS` rows or a group of a single row.
    """
    rows = np.asarray(table, dtype=np.float64)
    if len(rows) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, interval)
    value = float(statistic(rows))
    labels = np.asarray(groups if groups is not None else [""] * len(rows))
    if len(rows) < FEWEST_ROWS or np.unique(labels, return_counts=True)[1].min() < 2:
        return Estimate(value, float("nan"), float("nan"), len(rows), interval)
    generator = np.random.default_rng(0)
    draws = np.empty((RESAMPLES, len(rows)), dtype=np.int64)
    for label in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == label)
        draws[:, members] = generator.choice(members, (RESAMPLES, len(members)))
    # Rows number few, so most draws repeat one another up to order.
    distinct, counts = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)
    order = np.array([statistic(rows[draw]) for draw in distinct])
    low, high = np.percentile(np.repeat(order, counts), (2.5, 97.5))
    return Estimate(value, float(low), float(high), len(rows), interval)
