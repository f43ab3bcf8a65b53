"""Few samples a class (Figure 4): the same draws for every method, growing with k."""

from __future__ import annotations

from pathlib import Path

from lqf.experiments.grid import grid_points
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, load_task
from lqf.experiments.train import method_of, problem_of


def kshot(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method with k samples a class, for every k of ``experiments.kshot.shots``.

    The seed draws the training samples, the head and their order; the draw for k is contained in
    the draw for every larger k; a class of fewer images gives all of them, and for ``all`` every
    class does.  The choice is made on at most k further samples a class, which stay out of
    training; the test split is that of the other experiments.
    Arguments and rows as in `lqf.experiments.train.train`.
    """
    method = method_of(name, settings)
    points = grid_points(method, settings["training"][method.training])
    every: list[Row] = []
    for shots in settings["experiment"]["shots"]:
        task = load_task(data, dataset, None if shots == "all" else shots, settings, seed=seed)
        title = f"{dataset} {name} seed {seed}, {shots} shots"
        problem = problem_of(method, task, weights, settings, seed)
        rows, _ = fit_grid(name, method, problem, task, points, settings, seed, title)
        every += [{**row, "experiment": "kshot", "shots": shots} for row in rows]
    return every
