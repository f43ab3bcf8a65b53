"""Measures on eigenvalues, on removed samples and on their scores: Figures 3 and 6."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lqf.report.measured import NotTested, Results
from lqf.report.statistics import Estimate, t_interval


def spectrum_change(results: Results, matrix: str, quantity: str) -> Estimate:
    """log10 of a property of a Gauss–Newton matrix after non-linear fine-tuning over that before.

    Args:
        results: The aggregated CSVs.
        matrix: `squared` (JᵀJ/N) or `cross_entropy` (the loss that is trained).
        quantity: `lambda_max`, `spread` (λ1/λk, k = N) or `effective_dimension`.

    Returns:
        The mean over seeds.
    """
    rows = results.frame("condition.csv")
    rows = rows[rows["matrix"] == matrix]
    table = rows.pivot(index="seed", columns="phase", values=quantity)
    return t_interval(np.log10(table["end"] / table["init"]))


def removal_area(results: Results, first: str, second: str, schedule: str) -> Estimate:
    """Mean distance between two removal curves, in points of error.

    Args:
        results: The aggregated CSVs.
        first: `most`, `least` or `random`.
        second: The same; its error is subtracted.
        schedule: `one_shot` or `iterative`.

    Returns:
        The area between the curves over the range they share, divided by that range; the mean
        over seeds.
    """
    # Random removal has no scores to recompute, so it has one curve whatever the schedule.
    return _area(results, [(name, schedule) for name in (first, second)])


def schedule_area(results: Results, removal: str, first: str, second: str) -> Estimate:
    """Mean distance between the removal curves of two schedules, in points of error.

    Args:
        results: The aggregated CSVs.
        removal: `most` or `least`.
        first: `one_shot` or `iterative`.
        second: The same; its error is subtracted.

    Returns:
        As `removal_area`.
    """
    return _area(results, [(removal, schedule) for schedule in (first, second)])


def _area(results: Results, pair: Sequence[tuple[str, str]]) -> Estimate:
    runs = results.frame("removal_runs.csv")
    distances = []
    for _, rows in runs.groupby("seed", sort=True):
        curves = [_curve(rows, removal, schedule) for removal, schedule in pair]
        start, end = max(c.index[0] for c in curves), min(c.index[-1] for c in curves)
        grid = np.union1d(curves[0].index, curves[1].index)
        grid = grid[(grid >= start) & (grid <= end)]
        if len(grid) < 2:
            raise NotTested(f"the curves {pair} share no range of removed samples")
        values = [np.interp(grid, c.index, c.to_numpy(dtype=float)) for c in curves]
        distances.append(np.trapezoid(values[0] - values[1], grid) / (end - start))
    return t_interval(distances)


def _curve(rows: pd.DataFrame, removal: str, schedule: str) -> pd.Series:
    own = rows[rows["removal"] == removal]
    if schedule in set(own["schedule"]) or removal != "random":
        own = own[own["schedule"] == schedule]
    if own.empty:
        raise NotTested(f"there is no removal curve {removal}, {schedule}")
    return own.groupby("n_removed")["test_err"].mean().sort_index()


def rank_correlation(results: Results, score: str) -> Estimate:
    """Spearman correlation of a score with the exact sample information.

    Args:
        results: The aggregated CSVs.
        score: `fsi_eq8`, `fsi_kfac`, `leverage` or `loo_error`.

    Returns:
        The mean over seeds.

    Raises:
        NotTested: The score was not computed.
    """
    rows = results.frame("informativeness_correlation.csv")
    own = rows[rows["score"] == score]
    if own.empty:
        raise NotTested(f"there is no score {score}")
    values = own["spearman"].dropna()
    if values.empty:
        raise NotTested(f"{score} or the exact score was not measured at this size")
    return t_interval(values)
