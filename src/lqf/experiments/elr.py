"""Effective learning rates (Figure 1, right): error of every pair of rate and batch size (§4.7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lqf.experiments.grid import Point, grid_points
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, load_task
from lqf.experiments.train import method_of, problem_of


def elr(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method at every rate and batch size of ``experiments.elr``.

    Rates are absolute for every method.  The other numbers are the first of the method's own grid
    (its first weight decay and mode of batch norm).  Arguments and rows as in `lqf.experiments.train.train`.
    """
    method = method_of(name, settings)
    experiment = settings["experiment"]
    task = load_task(data, dataset, settings["train_per_class"], settings, seed)
    problem = problem_of(method, task, weights, settings, seed)
    first = grid_points(method, settings["training"][method.training])[0]
    points: list[Point] = [
        replace(first, rate=rate, relative=False, batch=batch, epochs=experiment["epochs"])
        for batch in experiment["batches"]
        for rate in experiment["rates"]
    ]
    title = f"elr {dataset} {name} seed {seed}"
    rows, _ = fit_grid(name, method, problem, task, points, settings, seed, title)
    return [{**row, "experiment": "elr"} for row in rows]
