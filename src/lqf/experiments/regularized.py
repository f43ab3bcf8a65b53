"""Regularisers of non-linear fine-tuning beside exact LQF: few samples a class, and wrong labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lqf.experiments.grid import grid_points
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, Split, Task, load_task
from lqf.experiments.train import method_of, problem_of


def regularized(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method with few samples a class, and with wrong labels.

    The draws are those of `lqf.experiments.kshot`. Labels are wrong where there are the most samples a
    class. Arguments and rows as in `lqf.experiments.train.train`.
    """
    method = method_of(name, settings)
    points = grid_points(method, settings["training"][method.training])
    experiment = settings["experiment"]
    wrong = [(max(experiment["shots"]), percent) for percent in experiment["noise"][1:]]
    every: list[Row] = []
    for shots, percent in [*((shots, 0) for shots in experiment["shots"]), *wrong]:
        task = mislabelled(load_task(data, dataset, shots, settings, seed=seed), percent, seed)
        title = f"{dataset} {name} seed {seed}, {shots} shots, {percent} % of labels wrong"
        problem = problem_of(method, task, weights, settings, seed)
        rows, _ = fit_grid(name, method, problem, task, points, settings, seed, title)
        every += [
            {**row, "experiment": "regularized", "shots": shots, "noise": percent} for row in rows
        ]
    return every


def mislabelled(task: Task, percent: int, seed: int) -> Task:
    """The task with wrong labels in the training and validation splits, never in the test split.

    Args:
        task: the task.
        percent: how many labels of each split are wrong, in whole samples; each becomes one of the other
            classes, all equally likely. The wrong ones of a percentage are wrong in every larger one.
        seed: of the draw.
    """

    def with_wrong(split: Split, position: int) -> Split:
        random = np.random.default_rng(np.random.SeedSequence([seed, position]))
        chosen = random.permutation(len(split))[: round(percent * len(split) / 100)]
        shifts = np.zeros(len(split), dtype=np.int64)
        shifts[chosen] = random.integers(1, task.classes, len(split))[chosen]
        shift = torch.from_numpy(shifts).to(split.labels.device)
        return replace(split, labels=(split.labels + shift) % task.classes)

    return replace(task, train=with_wrong(task.train, 0), val=with_wrong(task.val, 1))
