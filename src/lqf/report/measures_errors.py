"""Measures on errors of data set × method: Tables 1 and 2, Figures 1 (left) and 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lqf.report.measured import NotTested, Results, below, certain_share, mean, median
from lqf.report.statistics import BOOTSTRAP_INTERVAL, Estimate, bootstrap, t_interval


def _errors(results: Results, experiment: str, methods: Sequence[str]) -> pd.DataFrame:
    """Test errors of runs, one row a data set and seed, one column a method.

    Raises:
        NotTested: A method has no runs.
    """
    runs = results.frame(f"{experiment}_runs.csv")
    missing = sorted(set(methods) - set(runs["method"]))
    if missing:
        raise NotTested(f"{experiment} has no runs of {missing}")
    runs = runs[runs["method"].isin(methods)]
    return runs.pivot(index=["dataset", "seed"], columns="method", values="test_err")


def _differences(
    results: Results, experiment: str, method: str, reference: str
) -> dict[str, Estimate]:
    """Data set -> error of a method minus that of a reference, paired by seed."""
    table = _errors(results, experiment, [method, reference])
    gaps = table[method] - table[reference]
    return {str(name): t_interval(part) for name, part in gaps.groupby("dataset", sort=True)}


def _relative(results: Results, experiment: str, methods: Sequence[str]) -> pd.DataFrame:
    """Relative increases in %, one row a data set, one column a method, no gaps.

    Raises:
        NotTested: A method has no rows.
    """
    name = "relative.csv" if experiment == "comparison" else f"{experiment}.csv"
    rows = results.frame(name)
    missing = sorted(set(methods) - set(rows["method"]))
    if missing:
        raise NotTested(f"{experiment} has no rows of {missing}")
    rows = rows[rows["method"].isin(methods)]
    table = rows.pivot(index="dataset", columns="method", values="rel_increase_pct")
    return table[list(methods)].dropna()


def win_fraction(
    results: Results, experiment: str, method: str, against: Sequence[str]
) -> Estimate:
    """Share of data sets on which a method has a smaller error than every one of some others.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison`, `ablation` or `fine_grained`.
        method: The method.
        against: The others.

    Returns:
        The share; low counts the certain wins, high all but the certain losses.
    """
    gaps = [_differences(results, experiment, method, other) for other in against]
    verdicts = []
    for name in gaps[0]:
        measured, certain, possible = zip(*(below(gap[name], 0) for gap in gaps), strict=True)
        verdicts.append((all(measured), all(certain), all(possible)))
    return certain_share(verdicts)


def within_fraction(
    results: Results, experiment: str, method: str, reference: str, points: float, group: str
) -> Estimate:
    """Share of the data sets of a group on which a method is at most some points worse.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison`, `ablation` or `fine_grained`.
        method: The method.
        reference: What it is compared with.
        points: The difference allowed, in points of error.
        group: `coarse` or `fine`.

    Returns:
        The share; low counts the data sets where it is certain, high those where it is possible.
    """
    frame = results.frame(f"{experiment}.csv")
    members = set(frame.loc[frame["group"] == group, "dataset"])
    gaps = _differences(results, experiment, method, reference)
    # Printed errors have one decimal, and 21.2 − 20.7 is above 0.5 in binary.
    bound = points + 1e-9
    return certain_share([below(gap, bound) for name, gap in gaps.items() if name in members])


def largest_gain(results: Results, experiment: str, method: str, reference: str) -> Estimate:
    """Largest reduction of the error over all data sets, in points.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison`, `ablation` or `fine_grained`.
        method: The method.
        reference: What it improves on.

    Returns:
        The reduction on the data set where it is largest, with its interval over seeds there.
    """
    gaps = _differences(results, experiment, reference, method).values()
    return max(gaps, key=lambda gap: -np.inf if np.isnan(gap.value) else gap.value)


def mean_difference(results: Results, experiment: str, method: str, reference: str) -> Estimate:
    """Mean over data sets of the error of a method minus that of a reference, in points.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison`, `ablation` or `fine_grained`.
        method: The method.
        reference: What it is compared with.

    Returns:
        The mean, bootstrapped over data sets.
    """
    gaps = _differences(results, experiment, method, reference).values()
    return bootstrap([gap.value for gap in gaps if np.isfinite(gap.value)], mean)


def median_relative_increase(results: Results, experiment: str, method: str) -> Estimate:
    """Plain median over data sets of the relative increase of the error, in % (LQF Figure 1).

    Args:
        results: The aggregated CSVs.
        experiment: `comparison` (over nlft) or `ablation` (over lqf).
        method: The method.

    Returns:
        The median, bootstrapped over data sets.
    """
    return bootstrap(_relative(results, experiment, [method]), median)


def difference_of_medians(results: Results, experiment: str, method: str, other: str) -> Estimate:
    """Difference of two methods' median relative increases, in % points.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison` (over nlft) or `ablation` (over lqf).
        method: The method.
        other: The method subtracted.

    Returns:
        The difference; both medians are of the same resampled data sets.
    """
    table = _relative(results, experiment, [method, other])
    return bootstrap(table, lambda rows: median(rows[:, 0]) - median(rows[:, 1]))


def order_of_medians(results: Results, experiment: str, methods: Sequence[str]) -> Estimate:
    """How far the medians are from ascending strictly in the order of `methods`, in % points.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison` (over nlft) or `ablation` (over lqf).
        methods: Methods in the order claimed.

    Returns:
        The largest of the differences between a median and the next; negative if all ascend.
    """
    table = _relative(results, experiment, methods)
    return bootstrap(table, lambda rows: float(-np.diff(np.median(rows, axis=0)).min()))


def group_difference(
    results: Results, experiment: str, method: str, group: str, other: str
) -> Estimate:
    """Median relative increase in one group of data sets minus that in another, in % points.

    Args:
        results: The aggregated CSVs.
        experiment: `comparison` (over nlft).
        method: The method.
        group: `coarse` or `fine`.
        other: The group subtracted.

    Returns:
        The difference, bootstrapped over data sets within each group.

    Raises:
        NotTested: One of the groups is empty.
    """
    table = _relative(results, experiment, [method])
    frame = results.frame(f"{experiment}.csv").drop_duplicates("dataset").set_index("dataset")
    groups = frame["group"].reindex(table.index).tolist()
    if not {group, other} <= set(groups):
        raise NotTested(f"there are no data sets in one of the groups {group}, {other}")
    first = np.array([member == group for member in groups], dtype=float)
    second = np.array([member == other for member in groups], dtype=float)
    rows = np.column_stack([table[method], first, second])
    return bootstrap(
        rows,
        lambda r: median(r[r[:, 1] > 0, 0]) - median(r[r[:, 2] > 0, 0]),
        BOOTSTRAP_INTERVAL + " within groups",
        groups,
    )


def interaction(results: Results, experiment: str, first: str, second: str, both: str) -> Estimate:
    """Median over data sets of what one ablation costs more when another is made too, in %.

    Args:
        results: The aggregated CSVs.
        experiment: `ablation`.
        first: The ablation whose cost is asked for.
        second: The other ablation.
        both: The two together.

    Returns:
        Median of (both − second) − first, all relative increases over lqf.
    """
    table = _relative(results, experiment, [first, second, both])
    return bootstrap(table, lambda rows: median(rows[:, 2] - rows[:, 1] - rows[:, 0]))
