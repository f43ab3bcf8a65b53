"""What claims measure on the aggregated CSVs; one function a measure, named in the config.

A measure takes the results and the arguments that `lqf.report.rules.MEASURES` lists: an experiment
(`comparison`, whose relative increases are over nlft; `ablation`, over lqf; `fine_grained`), methods and
bounds. It raises `NotTested` where the results lack them. Errors are in %, differences of errors in
points. Where several data sets speak, the interval is a bootstrap over data sets; where one data set was
repeated, a t interval over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lqf.report.measured import NotTested, Results
from lqf.report.rules import MEASURES
from lqf.report.statistics import BOOTSTRAP_INTERVAL, Estimate, bootstrap, t_interval

_SIGN_INTERVAL = "data sets counted by the 95 % t interval over seeds of each"


def _pivot(
    rows: pd.DataFrame,
    lacks: str,
    methods: Sequence[str],
    index: str | list[str],
    values: str = "test_err",
) -> pd.DataFrame:
    if missing := sorted(set(methods) - set(rows["method"])):
        raise NotTested(f"{lacks} of {missing}")
    rows = rows[rows["method"].isin(methods)]
    return rows.pivot(index=index, columns="method", values=values)[list(methods)]


def _differences(
    results: Results, experiment: str, method: str, reference: str
) -> dict[str, Estimate]:
    """Data set -> error of a method minus that of a reference, paired by seed."""
    runs = results.frame(f"{experiment}_runs.csv")
    table = _pivot(runs, f"{experiment} has no runs", [method, reference], ["dataset", "seed"])
    gaps = table[method] - table[reference]
    return {str(name): t_interval(part) for name, part in gaps.groupby("dataset", sort=True)}


def _relative(results: Results, experiment: str, methods: Sequence[str]) -> pd.DataFrame:
    """Relative increases in %, one row a data set, one column a method, no gaps."""
    rows = results.frame("relative.csv" if experiment == "comparison" else f"{experiment}.csv")
    lacks = f"{experiment} has no rows"
    return _pivot(rows, lacks, methods, "dataset", "rel_increase_pct").dropna()


# A share of data sets as measured, with certain and possible ones as its interval.
def _certain_share(verdicts: Sequence[tuple[bool, bool, bool]]) -> Estimate:
    if not verdicts:
        raise NotTested("no data set has the methods asked for")
    value, low, high = np.mean(np.array(verdicts, dtype=float), axis=0)
    return Estimate(float(value), float(low), float(high), len(verdicts), _SIGN_INTERVAL)


def _below(gap: Estimate, bound: float) -> tuple[bool, bool, bool]:
    """Whether a difference is below a bound as measured, certainly, and possibly."""
    if np.isnan(gap.low):
        return gap.value < bound, False, True
    return gap.value < bound, gap.high < bound, gap.low < bound


def win_fraction(
    results: Results, experiment: str, method: str, against: Sequence[str]
) -> Estimate:
    """Share of data sets on which a method has a smaller error than every one of some others.

    Low counts the certain wins, high all but the certain losses.
    """
    gaps = [_differences(results, experiment, method, other) for other in against]
    verdicts = []
    # Partial results may lack a method on a data set.
    for name in sorted(set.intersection(*map(set, gaps))):
        measured, certain, possible = zip(*(_below(gap[name], 0) for gap in gaps), strict=True)
        verdicts.append((all(measured), all(certain), all(possible)))
    return _certain_share(verdicts)


def within_fraction(
    results: Results, experiment: str, method: str, reference: str, points: float, group: str
) -> Estimate:
    """Share of the data sets of a group (`coarse`, `fine`) with at most so many points more error.

    Low counts the data sets where it is certain, high those where it is possible.
    """
    frame = results.frame(f"{experiment}.csv")
    members = set(frame.loc[frame["group"] == group, "dataset"])
    gaps = _differences(results, experiment, method, reference)
    # Printed errors have one decimal, and 21.2 − 20.7 is above 0.5 in binary.
    bound = points + 1e-9
    return _certain_share([_below(gap, bound) for name, gap in gaps.items() if name in members])


def largest_gain(results: Results, experiment: str, method: str, reference: str) -> Estimate:
    """Largest reduction of the error over all data sets, in points, with its interval over seeds."""
    gaps = _differences(results, experiment, reference, method).values()
    return max(gaps, key=lambda gap: -np.inf if np.isnan(gap.value) else gap.value)


def mean_difference(results: Results, experiment: str, method: str, reference: str) -> Estimate:
    """Mean over data sets of the error of a method minus that of a reference, in points."""
    gaps = _differences(results, experiment, method, reference).values()
    return bootstrap([gap.value for gap in gaps if np.isfinite(gap.value)], np.mean)


def median_relative_increase(results: Results, experiment: str, method: str) -> Estimate:
    """Plain median over data sets of the relative increase of the error, in % (LQF Figure 1)."""
    return bootstrap(_relative(results, experiment, [method]), np.median)


def difference_of_medians(results: Results, experiment: str, method: str, other: str) -> Estimate:
    """Difference of two methods' median relative increases, in % points.

    Both medians are of the same resampled data sets.
    """
    table = _relative(results, experiment, [method, other])
    return bootstrap(table, lambda rows: np.median(rows[:, 0]) - np.median(rows[:, 1]))


def order_of_medians(results: Results, experiment: str, methods: Sequence[str]) -> Estimate:
    """How far the medians are from ascending strictly in the order of `methods`, in % points.

    The largest of the differences between a median and the next; negative if all ascend.
    """
    table = _relative(results, experiment, methods)
    return bootstrap(table, lambda rows: -np.diff(np.median(rows, axis=0)).min())


def group_difference(
    results: Results, experiment: str, method: str, group: str, other: str
) -> Estimate:
    """Median relative increase in one group of data sets minus that in another, in % points.

    Bootstrapped over data sets within each group.

    Raises:
        NotTested: One of the groups is empty.
    """
    table = _relative(results, experiment, [method])
    frame = results.frame(f"{experiment}.csv").drop_duplicates("dataset").set_index("dataset")
    groups = frame["group"].reindex(table.index)
    if not {group, other} <= set(groups):
        raise NotTested(f"there are no data sets in one of the groups {group}, {other}")
    rows = np.column_stack([table[method], groups == group, groups == other])
    return bootstrap(
        rows,
        lambda r: np.median(r[r[:, 1] > 0, 0]) - np.median(r[r[:, 2] > 0, 0]),
        BOOTSTRAP_INTERVAL + " within groups",
        groups.tolist(),
    )


def interaction(results: Results, experiment: str, first: str, second: str, both: str) -> Estimate:
    """Median over data sets of (both − second) − first, all relative increases in %.

    What one ablation costs more when another is made too.
    """
    table = _relative(results, experiment, [first, second, both])
    return bootstrap(table, lambda rows: np.median(rows[:, 2] - rows[:, 1] - rows[:, 0]))


def elr_spread_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of the spreads of the best effective learning rate over data sets, in decades.

    The spread is the standard deviation of log10 of the best rate.
    """
    best = results.frame("elr_best.csv")
    table = _pivot(best, "there are no results", [method, other], "dataset", "best_elr")
    logs = np.log10(table.dropna().to_numpy())
    return bootstrap(logs, lambda rows: rows[:, 0].std() - rows[:, 1].std())


def elr_regret(results: Results, method: str) -> Estimate:
    """What one learning rate and batch size for all data sets costs, in points of error.

    Mean over data sets of the error at the common choice (least mean validation error) minus the
    error at the data set's own choice.
    """
    return bootstrap(_regrets(results, method), np.mean)


def elr_regret_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of two methods' `elr_regret`, in points of error, paired by data set."""
    return bootstrap((_regrets(results, method) - _regrets(results, other)).dropna(), np.mean)


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

    `at` is k, or `smallest`, or `largest`.
    """
    rows = _at_shots(results.frame("kshot.csv"), at)
    return bootstrap(rows["rel_diff_pct"].dropna(), np.mean)


def kshot_trend(results: Results) -> Estimate:
    """The relative difference of `kshot_difference` at the smallest k minus that at the largest.

    Negative if LQF's advantage shrinks with k.
    """
    frame = results.frame("kshot.csv")
    ends = [
        _at_shots(frame, at).set_index("dataset")["rel_diff_pct"] for at in ("smallest", "largest")
    ]
    return bootstrap((ends[0] - ends[1]).dropna(), np.mean)


def kshot_losses(results: Results, at: str | int) -> Estimate:
    """Number of data sets on which LQF has a larger error than NLFT with k samples a class.

    Low counts the certain losses, high all but the certain wins.
    """
    rows = _at_shots(results.frame("kshot_runs.csv"), at)
    # A loss is a gain below zero, seen from the other side.
    gains = [t_interval(-part["diff"]) for _, part in rows.groupby("dataset", sort=True)]
    share = _certain_share([_below(gain, 0) for gain in gains])
    counts = (share.value * share.n, share.low * share.n, share.high * share.n)
    return Estimate(*counts, share.n, share.interval)


def _at_shots(frame: pd.DataFrame, at: str | int) -> pd.DataFrame:
    shots = frame["shots"].astype(str)
    if at in {"smallest", "largest"}:
        order = frame.groupby(shots)["n_train"].mean()
        at = str(order.idxmin() if at == "smallest" else order.idxmax())
    return frame[shots == str(at)]


def online_gap(results: Results, method: str) -> Estimate:
    """Accuracy from scratch minus accuracy step by step, in points, over the last half of steps."""
    return t_interval(_online_gaps(results, method))


def online_gap_difference(results: Results, method: str, other: str) -> Estimate:
    """Difference of two methods' `online_gap`, in points, paired by seed."""
    return t_interval((_online_gaps(results, method) - _online_gaps(results, other)).dropna())


def online_cost_ratio(results: Results, method: str) -> Estimate:
    """Training samples visited step by step over those visited from scratch, all steps together."""
    visits = results.frame("online_runs.csv").groupby(["seed", "method"])["visits"].sum()
    table = _online(visits.reset_index(), method, ["seed"], "visits")
    return t_interval(table[f"{method}_inc"] / table[f"{method}_scratch"])


def _online_gaps(results: Results, method: str) -> pd.Series:
    runs = results.frame("online_runs.csv")
    late = runs[runs["step"] > runs["step"].max() / 2]
    table = _online(late, method, ["seed", "step"], "acc")
    return (table[f"{method}_scratch"] - table[f"{method}_inc"]).groupby("seed").mean()


def _online(rows: pd.DataFrame, method: str, index: list[str], values: str) -> pd.DataFrame:
    ways = [f"{method}_inc", f"{method}_scratch"]
    return _pivot(rows, "there are no results", ways, index, values)


def spectrum_change(results: Results, matrix: str, quantity: str) -> Estimate:
    """log10 of a property of a Gauss–Newton matrix after non-linear fine-tuning over that before.

    The matrix is `squared` (JᵀJ/N) or `cross_entropy` (the loss that is trained), the quantity
    `lambda_max`, `spread` (λ1/λk, k = N) or `effective_dimension`.
    """
    rows = results.frame("condition.csv")
    rows = rows[rows["matrix"] == matrix]
    table = rows.pivot(index="seed", columns="phase", values=quantity)
    return t_interval(np.log10(table["end"] / table["init"]))


def removal_area(results: Results, first: str, second: str, schedule: str) -> Estimate:
    """Mean distance between the curves of two removals, the first minus the second, in points.

    The area between the curves over the range they share, divided by that range. Removals are
    `most`, `least` and `random`, schedules `one_shot` and `iterative`.
    """
    return _area(results, [(name, schedule) for name in (first, second)])


def schedule_area(results: Results, removal: str, first: str, second: str) -> Estimate:
    """The same between the curves of two schedules."""
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
    # Random removal has no scores to recompute, so it has one curve whatever the schedule.
    if schedule in set(own["schedule"]) or removal != "random":
        own = own[own["schedule"] == schedule]
    if own.empty:
        raise NotTested(f"there is no removal curve {removal}, {schedule}")
    return own.groupby("n_removed")["test_err"].mean().sort_index()


def rank_correlation(results: Results, score: str) -> Estimate:
    """Mean Spearman correlation of a score with the exact sample information.

    Raises:
        NotTested: The score was not computed.
    """
    rows = results.frame("informativeness_correlation.csv")
    values = rows.loc[rows["score"] == score, "spearman"].dropna()
    if values.empty:
        raise NotTested(f"{score} or the exact score was not measured at this size")
    return t_interval(values)


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
    costs = (_by_method(noisy) - _by_method(clean)).dropna()
    table = _beside(costs, method, [str(name) for name in costs if name != method])
    return bootstrap(table, lambda r: (r[:, :1] - r[:, 1:]).mean(axis=0).max())


def regularized_gap(results: Results, reference: str, at: int) -> Estimate:
    """Error of the best regulariser of NLFT minus that of a reference, in points, with `at` images a class.

    The mean over data sets; the best regulariser is the one with the least. Positive if none closes the gap.
    """
    rows = results.frame("regularized.csv")
    rows = rows[(rows["noise"] == 0) & (rows["shots"].astype(str) == str(at))]
    names = sorted(set(rows.loc[rows["regularizer"] != "none", "method"]))
    table = _beside(_by_method(rows).dropna(), reference, names)
    return bootstrap(table, lambda r: (r[:, 1:] - r[:, :1]).mean(axis=0).min())


def leave_one_out_bias(results: Results, method: str) -> Estimate:
    """Leave-one-out error minus test error of an exact method, in points, from two images a class on.

    The mean over the fits of a data set, then over data sets.
    """
    rows = results.frame("leave_one_out.csv")
    own = rows[rows["counted"] & (rows["method"] == method)]
    return bootstrap(own.groupby("dataset")["gap"].mean(), np.mean)


def kept_difference(results: Results, first: str, second: str, at: int) -> Estimate:
    """Error with `at` % of the images kept in one order minus that in another, in points, paired by draw.

    The mean over data sets, with an interval over seeds: another draw of the images of the same sets.
    """
    rows = results.frame("summary_runs.csv")
    kept = rows[rows["share"] == at].rename(columns={"method": "fitted", "order": "method"})
    keys = ["seed", "dataset", "fitted"]
    table = _pivot(kept, f"summary has no runs with {at} %", [first, second], keys)
    return t_interval((table[first] - table[second]).groupby("seed").mean())


def chosen_area(results: Results, first: str, second: str) -> Estimate:
    """Area between two curves of the error against images learned, over their range, in points.

    Of each data set and seed, whose images to start with and to choose from both orders share.
    """
    rows = results.frame("active_runs.csv")
    curves = rows[rows["mode"] == "incremental"].rename(
        columns={"method": "fitted", "order": "method"}
    )
    keys = ["dataset", "fitted", "seed", "n_train"]
    table = _pivot(curves, "active has no runs", [first, second], keys)
    gaps = (table[first] - table[second]).reset_index("n_train", name="gap")
    areas = [
        np.trapezoid(gap["gap"], gap["n_train"]) / np.ptp(gap["n_train"])
        for _, gap in gaps.groupby(level=keys[:-1])
    ]
    return t_interval(areas, "95 % t interval over data sets and seeds")


def _by_method(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot(index="dataset", columns="method", values="err_mean")


def _beside(table: pd.DataFrame, method: str, others: list[str]) -> np.ndarray:
    if method not in table or not others:
        raise NotTested(f"regularized does not have {method} and something beside it")
    return table[[method, *others]].to_numpy()


FUNCTIONS: Mapping[str, Callable[..., Estimate]] = {name: globals()[name] for name in MEASURES}
"""Measure -> the function that takes it."""
