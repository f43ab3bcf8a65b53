"""What claims measure on the aggregated CSVs; one function a measure, named in the config.

Errors are in %, differences of errors in points. Where several data sets speak, the interval is a
bootstrap over data sets; where one data set was repeated, a t interval over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lqf.report import paper
from lqf.report.aggregate_errors import relative_to
from lqf.report.statistics import (
    BOOTSTRAP_INTERVAL,
    Estimate,
    Values,
    bootstrap,
    t_interval,
)

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


def _errors(results: Results, experiment: str, methods: Sequence[str]) -> pd.DataFrame:
    """Test errors of runs, one row a data set and seed, one column a method."""
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
    """Relative increases in %, one row a data set, one column a method, no gaps."""
    name = "relative.csv" if experiment == "comparison" else f"{experiment}.csv"
    rows = results.frame(name)
    missing = sorted(set(methods) - set(rows["method"]))
    if missing:
        raise NotTested(f"{experiment} has no rows of {missing}")
    rows = rows[rows["method"].isin(methods)]
    table = rows.pivot(index="dataset", columns="method", values="rel_increase_pct")
    return table[list(methods)].dropna()


def _certain_share(verdicts: Sequence[tuple[bool, bool, bool]]) -> Estimate:
    """Share of data sets: as measured, certainly, and possibly."""
    if not verdicts:
        raise NotTested("no data set has the methods asked for")
    value, low, high = np.mean(np.array(verdicts, dtype=float), axis=0)
    return Estimate(float(value), float(low), float(high), len(verdicts), SIGN_INTERVAL)


def _below(gap: Estimate, bound: float) -> tuple[bool, bool, bool]:
    """Whether a difference is below a bound: as measured, certainly, possibly."""
    if np.isnan(gap.low):
        return gap.value < bound, False, True
    return gap.value < bound, gap.high < bound, gap.low < bound


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
    return _certain_share(
        [
            tuple(all(parts) for parts in zip(*(_below(gap[name], 0) for gap in gaps), strict=True))
            for name in gaps[0]
        ]
    )


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
    return _certain_share([_below(gap, bound) for name, gap in gaps.items() if name in members])


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
    return bootstrap([gap.value for gap in gaps if np.isfinite(gap.value)], _mean)


def median_relative_increase(results: Results, experiment: str, method: str) -> Estimate:
    """Plain median over data sets of the relative increase of the error, in % (LQF Figure 1).

    Args:
        results: The aggregated CSVs.
        experiment: `comparison` (over nlft) or `ablation` (over lqf).
        method: The method.

    Returns:
        The median, bootstrapped over data sets.
    """
    return bootstrap(_relative(results, experiment, [method]), _median)


def difference_of_medians(
    results: Results, experiment: str, method: str, other: str
) -> Estimate:
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
    return bootstrap(table, lambda rows: _median(rows[:, 0]) - _median(rows[:, 1]))


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
        lambda r: _median(r[r[:, 1] > 0, 0]) - _median(r[r[:, 2] > 0, 0]),
        BOOTSTRAP_INTERVAL + " within groups",
        groups,
    )


def interaction(
    results: Results, experiment: str, first: str, second: str, both: str
) -> Estimate:
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
    return bootstrap(table, lambda rows: _median(rows[:, 2] - rows[:, 1] - rows[:, 0]))


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
    logs = np.log10(_columns(table, [method, other])).dropna()
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
    return bootstrap(_regrets(results, method), _mean)


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
    return bootstrap(gaps, _mean)


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
    rate, batch = safe.groupby(keys)["val_mean"].mean().idxmin()
    common = safe[(safe["rate"] == rate) & (safe["batch"] == batch)].set_index("dataset")
    return (common["err_mean"] - best["err_mean"]).dropna()


def condition_change(results: Results, rank: str) -> Estimate:
    """log10 of the condition number after non-linear fine-tuning over that before it.

    Args:
        results: The aggregated CSVs.
        rank: `own` (eigenvalues above the cutoff in each phase) or `common` (as many in both).

    Returns:
        The mean over seeds.
    """
    column = {"own": "kappa", "common": "kappa_common"}[rank]
    table = results.frame("condition.csv").pivot(index="seed", columns="phase", values=column)
    return t_interval(np.log10(table["end"] / table["init"]))


def kshot_difference(results: Results, at: str | int) -> Estimate:
    """Mean over data sets of (LQF − NLFT) / NLFT with k samples a class, in %.

    Args:
        results: The aggregated CSVs.
        at: k, or `smallest`, or `largest`.

    Returns:
        The mean, bootstrapped over data sets.
    """
    rows = _at_shots(results.frame("kshot.csv"), at)
    return bootstrap(rows["rel_diff_pct"].dropna(), _mean)


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
    return bootstrap((ends[0] - ends[1]).dropna(), _mean)


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
    share = _certain_share([_below(gap, 0) for gap in turned])
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
    visits = _columns(visits, [f"{method}_inc", f"{method}_scratch"])
    return t_interval(visits[f"{method}_inc"] / visits[f"{method}_scratch"])


def _online_gaps(results: Results, method: str) -> pd.Series:
    runs = results.frame("online_runs.csv")
    late = runs[runs["step"] > runs["step"].max() / 2]
    table = _columns(
        late.pivot(index=["seed", "step"], columns="method", values="acc"),
        [f"{method}_inc", f"{method}_scratch"],
    )
    gaps = table[f"{method}_scratch"] - table[f"{method}_inc"]
    return gaps.groupby("seed").mean()


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
    values = rows.loc[rows["score"] == score, "spearman"].dropna()
    if values.empty:
        raise NotTested(f"there is no score {score}")
    return t_interval(values)


def _columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise NotTested(f"there are no results of {missing}")
    return table[list(names)]


def _mean(rows: Values) -> float:
    return float(rows.mean())


def _median(rows: Values) -> float:
    return float(np.median(rows))


FUNCTIONS: Mapping[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        win_fraction,
        within_fraction,
        largest_gain,
        mean_difference,
        median_relative_increase,
        difference_of_medians,
        order_of_medians,
        group_difference,
        interaction,
        elr_spread_difference,
        elr_regret,
        elr_regret_difference,
        condition_change,
        kshot_difference,
        kshot_trend,
        kshot_losses,
        online_gap,
        online_gap_difference,
        online_cost_ratio,
        removal_area,
        schedule_area,
        rank_correlation,
    )
}
"""Measure -> the function that takes it."""
