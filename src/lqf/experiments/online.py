"""Learning online (Figure 5, LQF §4.5): a growing training set, warm starts against cold ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from lqf.checkpoint import Points, state_of
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point, grid_points
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, Problem
from lqf.experiments.rows import Row, describe, fit_columns, fit_grid, point_columns
from lqf.experiments.task import Settings, Task, load_task
from lqf.experiments.train import method_of, problem_of
from lqf.losses import error_rate
from lqf.method import Method
from lqf.ridge import Diverged, Snapshot
from lqf.run import device, progress
from lqf.snapshot import State

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
        self.streak = 0

    def __call__(self, epoch: int, loss: float, outputs: Callable[[], Tensor]) -> bool:
        below = error_rate(outputs(), self._labels) < self._error
        self.streak = self.streak + 1 if below else 0
        return self.streak >= self._patience


def online(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method on D_1 ⊂ D_2 ⊂ …, from the last solution and from w0.

    Each step adds ``per_step`` samples, balanced over classes; training goes on until the stop
    rule holds or ``max_epochs`` are done, at a constant rate: the smallest of the grid where rates
    are relative to the curvature, else the one that validation chose on the last and largest set.
    Curvature at w0 is computed again whenever the data doubled; an exact solver chooses its constants
    again then.  It stands for the optimum at each step, where a start cannot matter: it is fitted from w0
    only.

    Arguments and rows as in `lqf.experiments.train.train`; one row a mode and step.

    Raises:
        ValueError: if the steps need more samples than there are.
    """
    method, experiment = method_of(name, settings), settings["experiment"]
    task = load_task(data, dataset, None, settings, seed=seed)
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
    finished, warm = Points(title), _WarmStart(problem, title)
    learned: LinearProblem | ExactProblem | None = None
    # Where a start does not matter there is one way.
    modes = MODES if method.optimizer in ("sgd", "kfac_sgd") else MODES[1:]
    with progress(experiment["steps"] * len(modes), title, "fit") as bar:
        for step in range(1, experiment["steps"] + 1):
            now = replace(task, train=task.train.take(step * experiment["per_step"]))
            current = problem.first(len(now.train))
            if not isinstance(current, NonlinearProblem):
                learned = _curvature_of(learned, current)
            for mode in modes:
                known = finished.get((step, mode))
                if known is None or (mode == "incremental" and warm.step < step):
                    start = warm.value if mode == "incremental" else None
                    state = finished.state((step, mode))
                    row, fit = _fit_step(current, method, now, point, seed, start, settings, state)
                    common = describe(name, method, now, settings, seed)
                    known = {"row": {**common, **row, "mode": mode, "step": step}}
                    finished.put((step, mode), known)
                    if mode == "incremental":
                        warm.move(step, fit)
                    state.forget()
                rows.append({**known["row"], "experiment": "online"})
                bar.update()
    return rows


class _WarmStart:
    """Where the incremental mode has come to: the solution of the last step that had one.

    Args:
        problem: the problem of all steps.
        title: tells this run from others of the job.

    Attributes:
        step: the last step done, by this process or one before it; 0 before the first.
        value: δ or the network that training goes on from; None before the first solution.
    """

    def __init__(self, problem: Problem, title: str) -> None:
        self._state = state_of("warm_start", title)
        self.step, self.value = 0, None
        known = self._state.load()
        if known is None:
            return
        self.step = known.numbers["step"]
        if not known.tensors:
            return
        if not isinstance(problem, NonlinearProblem):
            self.value = known.tensors["delta"].to(device())
        else:
            self.value = deepcopy(problem.network)
            self.value.load_state_dict(known.tensors)

    value: Tensor | nn.Module | None

    def move(self, step: int, fit: Fit | None) -> None:
        """Keep the solution of a step; the one before where there is none."""
        if fit is not None:
            self.value = fit.network if fit.delta is None else fit.delta
        self.step = step
        tensors = {}
        if isinstance(self.value, Tensor):
            tensors = {"delta": self.value}
        elif self.value is not None:
            tensors = self.value.state_dict()
        self._state.keep(Snapshot(tensors, {"step": step}))


class _WithStreak:
    """A state that also holds how often in a row the stop rule held."""

    def __init__(self, state: State, stop: _StopWhenLearned) -> None:
        self._state, self._stop = state, stop

    def load(self) -> Snapshot | None:
        known = self._state.load()
        if known is not None:
            self._stop.streak = known.numbers["streak"]
        return known

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        def extended() -> Snapshot:
            made = snapshot()
            return Snapshot(made.tensors, {**made.numbers, "streak": self._stop.streak})

        self._state.offer(extended)


def _curvature_of(
    known: LinearProblem | ExactProblem | None, current: LinearProblem | ExactProblem
) -> LinearProblem | ExactProblem:
    """Give ``current`` the curvature known so far, or its own once its data are twice as many."""
    current.forget_curvature()
    if known is None or len(current.train) >= 2 * len(known.train):
        return current
    if isinstance(current, LinearProblem):
        current.share_curvature(cast("LinearProblem", known))
    else:
        current.share_curvature(cast("ExactProblem", known))
    return known


def _fit_step(
    problem: Problem,
    method: Method,
    task: Task,
    point: Point,
    seed: int,
    start: Tensor | nn.Module | None,
    settings: Settings,
    state: State,
) -> tuple[Row, Fit | None]:
    experiment = settings["experiment"]
    stop = _StopWhenLearned(task.train.labels, experiment["stop_error"], experiment["patience"])
    started = time.perf_counter()
    row = point_columns(point, problem, method, task)
    fit: Fit | None = None
    try:
        resume = _WithStreak(state, stop)
        if isinstance(problem, LinearProblem | ExactProblem):
            fit = problem.fit(point, seed, stop, cast("Tensor | None", start), resume)
        else:
            fit = problem.fit(point, seed, stop, cast("nn.Module | None", start), resume)
        row |= fit_columns(fit, task)[0]
    except Diverged as error:
        log.warning("step of %d samples: %s", len(task.train), error)
        row |= {"epochs": error.epoch, "status": "diverged", "message": str(error)}
    return {**row, "wall_s": state.seconds + time.perf_counter() - started}, fit
