"""Learning online (Figure 5, LQF §4.5): a growing training set, warm starts against cold ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from lqf.experiments.grid import Point, grid_points
from lqf.experiments.problem import Fit, LinearProblem, NonlinearProblem
from lqf.experiments.rows import Row, describe, fit_columns, fit_grid, point_columns
from lqf.experiments.task import Settings, Task, load_task
from lqf.experiments.train import method_of, problem_of
from lqf.losses import error_rate
from lqf.method import Method
from lqf.run import progress
from lqf.solve import Diverged

log = logging.getLogger(__name__)

MODES = ("incremental", "scratch")


class _StopWhenLearned:
    """The paper's rule: training error below a bound for some epochs in a row (§4.5).

    Args:
        labels: labels of the training samples so far.
        error: the bound, in %.
        patience: epochs in a row.
    """

    def __init__(self, labels: Tensor, error: float, patience: int) -> None:
        self._labels, self._error, self._patience = labels, error, patience
        self._streak = 0

    def __call__(self, epoch: int, loss: float, outputs: Callable[[], Tensor]) -> bool:
        below = error_rate(outputs(), self._labels) < self._error
        self._streak = self._streak + 1 if below else 0
        return self._streak >= self._patience


def online(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method on D_1 ⊂ D_2 ⊂ …, from the last solution and from w0.

    Each step adds ``per_step`` samples, balanced over classes; training goes on until the stop
    rule holds or ``max_epochs`` are done, at a constant rate: the smallest of the grid where rates
    are relative to the curvature, else the one that validation chose on the last and largest set.  Curvature at w0 is computed again whenever the data doubled.

    Arguments and rows as in `lqf.experiments.train.train`; one row a mode and step.

    Raises:
        ValueError: if the steps need more samples than there are.
    """
    method, experiment = method_of(name, settings), settings["experiment"]
    task = load_task(data, dataset, None, seed=seed)
    count = experiment["steps"] * experiment["per_step"]
    if count > len(task.train):
        raise ValueError(
            f"experiments.online asks for {experiment['steps']} steps of {experiment['per_step']} "
            f"samples, but data set {dataset!r} has {len(task.train)} training images; lower "
            "steps or per_step."
        )
    whole = replace(task, train=task.train.take(count))
    problem = problem_of(method, whole, weights, settings, seed)
    points = grid_points(method, settings["training"][method.training])
    title = f"online {dataset} {name} seed {seed}"
    if all(point.relative for point in points):
        # No search: one conservative rate that is stable on every D_t (LQF §3.2).
        chosen = min(points, key=lambda point: point.rate or 0.0)
    else:
        grid, _ = fit_grid(name, method, problem, whole, points, settings, seed, f"{title}, grid")
        chosen = points[next((n for n, row in enumerate(grid) if row["selected_val"]), 0)]
    point = replace(chosen, epochs=experiment["max_epochs"], milestones=())

    rows: list[Row] = []
    last: Fit | None = None
    learned: LinearProblem | None = None
    with progress(experiment["steps"] * len(MODES), title, "fit") as bar:
        for step in range(1, experiment["steps"] + 1):
            now = replace(task, train=task.train.take(step * experiment["per_step"]))
            current = problem.first(len(now.train))
            if isinstance(current, LinearProblem):
                learned = _curvature_of(learned, current)
            for mode in MODES:
                start = last if mode == "incremental" else None
                row, fit = _fit_step(current, method, now, point, seed, start, settings)
                common = describe(name, method, now, settings, seed)
                rows.append({**common, **row, "experiment": "online", "mode": mode, "step": step})
                if mode == "incremental":
                    last = fit or last
                bar.update()
    return rows


def _curvature_of(known: LinearProblem | None, current: LinearProblem) -> LinearProblem:
    """Give ``current`` the curvature known so far, or its own once its data are twice as many."""
    current.forget_curvature()
    if known is None or len(current.train) >= 2 * len(known.train):
        return current
    current.share_curvature(known)
    return known


def _fit_step(
    problem: NonlinearProblem | LinearProblem,
    method: Method,
    task: Task,
    point: Point,
    seed: int,
    start: Fit | None,
    settings: Settings,
) -> tuple[Row, Fit | None]:
    experiment = settings["experiment"]
    stop = _StopWhenLearned(task.train.labels, experiment["stop_error"], experiment["patience"])
    started = time.perf_counter()
    row = point_columns(point, problem, method, task)
    fit: Fit | None = None
    try:
        if isinstance(problem, LinearProblem):
            fit = problem.fit(point, seed, stop, None if start is None else start.delta)
        else:
            network: nn.Module | None = None if start is None else start.network
            fit = problem.fit(point, seed, stop, network)
        row |= fit_columns(fit, task)[0]
    except Diverged as error:
        log.warning("step of %d samples: %s", len(task.train), error)
        row |= {"epochs": error.epoch, "status": "diverged", "message": str(error)}
    return {**row, "wall_s": time.perf_counter() - started}, fit
