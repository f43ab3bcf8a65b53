"""Measures on learning rates, shots and steps: Figures 1 (right), 4 and 5."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lqf.report.measured import NotTested, Results, below, certain_share, columns, mean
from lqf.report.statistics import Estimate, bootstrap, t_interval


def elr_spread_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of the spreads of the best effective learning rate over data sets, in decades.

    Args:
        results: The aggregated CSVs.
        method: The method.
        other: The method whose spread is subtracted.

    Returns:
        Difference of the standard deviations of log10 of the best rate.
    """
    best = results.frame("elr_best.csv")
    table = best.pivot(index="dataset", columns="method", values="best_elr")
    logs = np.log10(columns(table, [method, other]).dropna().to_numpy())
    return bootstrap(logs, lambda rows: float(rows[:, 0].std() - rows[:, 1].std()))


def elr_regret(results: Results, method: str) -> Estimate:
    """What one learning rate and batch size for all data sets costs, in points of error.

    Args:
        results: The aggregated CSVs.
        method: The method.

    Returns:
        Mean over data sets of the error at the common choice (least mean validation error) minus
        the error at the data set's own choice.
    """
    return bootstrap(_regrets(results, method), mean)


def elr_regret_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of two methods' `elr_regret`, in points of error.

    Args:
        results: The aggregated CSVs.
        method: The method.
        other: The method subtracted.

    Returns:
        The difference, paired by data set.
    """
    gaps = (_regrets(results, method) - _regrets(results, other)).dropna()
    return bootstrap(gaps, mean)


def _regrets(results: Results, method: str) -> pd.Series:
    points = results.frame("elr.csv")
    points = points[points["method"] == method]
    best = results.frame("elr_best.csv")
    best = best[best["method"] == method].set_index("dataset")
    if points.empty:
        raise NotTested(f"elr has no rows of {method}")
    # A rate at which a run diverged on any data set cannot be everybody's rate.
    keys = ["rate", "batch"]
    safe = points.groupby(keys).filter(lambda rows: bool((rows["n_diverged"] == 0).all()))
    if safe.empty:
        raise NotTested(f"{method} diverged somewhere at every learning rate")
    means = safe.groupby(keys, as_index=False)["val_mean"].mean()
    choice = means.loc[[means["val_mean"].idxmin()], keys]
    common = safe.merge(choice, on=keys).set_index("dataset")
    return (common["err_mean"] - best["err_mean"]).dropna()


def kshot_difference(results: Results, at: str | int) -> Estimate:
    """Mean over data sets of (LQF − NLFT) / NLFT with k samples a class, in %.

    Args:
        results: The aggregated CSVs.
        at: k, or `smallest`, or `largest`.

    Returns:
        The mean, bootstrapped over data sets.
    """
    rows = _at_shots(results.frame("kshot.csv"), at)
    return bootstrap(rows["rel_diff_pct"].dropna(), mean)


def kshot_trend(results: Results) -> Estimate:
    """The relative difference of `kshot_difference` at the smallest k minus that at the largest.

    Args:
        results: The aggregated CSVs.

    Returns:
        The mean over data sets of the difference; negative if LQF's advantage shrinks with k.
    """
    frame = results.frame("kshot.csv")
    ends = [
        _at_shots(frame, at).set_index("dataset")["rel_diff_pct"] for at in ("smallest", "largest")
    ]
    return bootstrap((ends[0] - ends[1]).dropna(), mean)


def kshot_losses(results: Results, at: str | int) -> Estimate:
    """Number of data sets on which LQF has a larger error than NLFT with k samples a class.

    Args:
        results: The aggregated CSVs.
        at: k, or `smallest`, or `largest`.

    Returns:
        The number; low counts the certain losses, high all but the certain wins.
    """
    rows = _at_shots(results.frame("kshot_runs.csv"), at)
    gaps = {name: t_interval(part["diff"]) for name, part in rows.groupby("dataset", sort=True)}
    # A loss is a gain below zero, seen from the other side.
    turned = [
        Estimate(-gap.value, -gap.high, -gap.low, gap.n, gap.interval) for gap in gaps.values()
    ]
    share = certain_share([below(gap, 0) for gap in turned])
    total = share.n
    return Estimate(
        share.value * total, share.low * total, share.high * total, total, share.interval
    )


def _at_shots(frame: pd.DataFrame, at: str | int) -> pd.DataFrame:
    shots = frame["shots"].astype(str)
    if at in {"smallest", "largest"}:
        order = frame.groupby(shots)["n_train"].mean()
        at = str(order.idxmin() if at == "smallest" else order.idxmax())
    return frame[shots == str(at)]


def online_gap(results: Results, method: str) -> Estimate:
    """Accuracy from scratch minus accuracy step by step, in points.

    Args:
        results: The aggregated CSVs.
        method: `lqf` or `nlft`.

    Returns:
        The mean over the second half of the steps, with its interval over seeds.
    """
    return t_interval(_online_gaps(results, method))


def online_gap_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of two methods' `online_gap`, in points.

    Args:
        results: The aggregated CSVs.
        method: The method.
        other: The method subtracted.

    Returns:
        The difference, paired by seed.
    """
    return t_interval((_online_gaps(results, method) - _online_gaps(results, other)).dropna())


def online_cost_ratio(results: Results, method: str) -> Estimate:
    """Training samples visited step by step over those visited from scratch, all steps together.

    Args:
        results: The aggregated CSVs.
        method: `lqf` or `nlft`.

    Returns:
        The mean over seeds.
    """
    runs = results.frame("online_runs.csv")
    visits = runs.groupby(["seed", "method"])["visits"].sum().unstack()
    visits = columns(visits, [f"{method}_inc", f"{method}_scratch"])
    return t_interval(visits[f"{method}_inc"] / visits[f"{method}_scratch"])


def _online_gaps(results: Results, method: str) -> pd.Series:
    runs = results.frame("online_runs.csv")
    late = runs[runs["step"] > runs["step"].max() / 2]
    table = columns(
        late.pivot(index=["seed", "step"], columns="method", values="acc"),
        [f"{method}_inc", f"{method}_scratch"],
    )
    gaps = table[f"{method}_scratch"] - table[f"{method}_inc"]
    return gaps.groupby("seed").mean()
