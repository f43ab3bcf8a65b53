"""Active learning: which images to label next, each learned by `extend` and not by training again."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from lqf.experiments.grid import grid_points
from lqf.experiments.rows import Row, describe
from lqf.experiments.summary import few_images
from lqf.experiments.task import Settings
from lqf.experiments.train import method_of
from lqf.losses import error_rate
from lqf.optimum import Optimum, fit
from lqf.run import progress

ORDERS = ("variance", "margin", "random")


def active(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Start with some images of each class, and learn those that each order chooses next.

    Every data set has ``images`` training images, as many of each class. ``start`` of each class have labels, and every
    step asks for as many labels as there are classes: of the images with the largest trace of the predictive
    covariance, of those with the smallest margin between the two largest outputs (Scheffer et al. 2001), or at random. μ and
    the metric are those of the start, and what is chosen is learned by `Optimum.extend`. After the last step the same images
    are fitted from scratch, μ and the metric being chosen anew; ``mode`` tells the two apart. ``passes`` are those of
    learning; ``wall_s`` is that and choosing. Arguments and rows as in `lqf.experiments.train.train`.

    Raises:
        TypeError: if the method is not solved exactly.
        ValueError: if there are fewer images than the steps ask for.
    """
    experiment, method = settings["experiment"], method_of(name, settings)
    task, problem = few_images(name, dataset, seed, data, weights, settings)
    classes, samples, steps = task.classes, len(task.train), experiment["steps"]
    count = experiment["start"] * classes
    if count + steps * classes > samples:
        raise ValueError(
            f"experiments.active starts with {experiment['start']} images of each of {classes} classes and learns "
            f"one a class in each of {steps} steps, but data set {dataset!r} has {samples} training images; raise "
            "images, or lower start or steps."
        )
    drawn = torch.rand(samples, generator=torch.Generator().manual_seed(seed))
    drawn = drawn.to(task.train.labels.device)

    def scores(order: str, learned: Optimum, left: Tensor) -> Tensor:
        pool = task.train.select(left)
        if order == "variance":
            covariance = learned.covariance(problem.inputs(pool)[:])
            return covariance.diagonal(dim1=1, dim2=2).sum(1)
        if order == "margin":
            first, second = problem.outputs(learned, pool).topk(2).values.unbind(1)
            return second - first
        return drawn[left]

    def measured(learned: Optimum, seconds: float) -> Row:
        known = learned.problem.target
        fitted = known - learned.mu * learned.coefficients
        outputs = problem.outputs(learned, task.test)
        return {
            "n_train": len(known),
            "mu": learned.mu,
            "residual": learned.certificate.residual,
            "passes": learned.certificate.passes,
            "train_err": error_rate(fitted, known.argmax(1)),
            "test_err": error_rate(outputs, task.test.labels),
            "status": "ok",
            "wall_s": seconds,
        }

    start = problem.first(count).optimum(
        grid_points(method, settings["training"]["exact"])[0], seed
    )
    targets = problem.loss.targets(task.train.labels, start.problem.target.dtype)
    first_row = measured(start, start.certificate.seconds)
    common = {**describe(name, method, task, settings, seed), "experiment": "active"}
    rows: list[Row] = []
    with progress(len(ORDERS) * steps, f"active {dataset} {name} seed {seed}", "step") as bar:
        for order in ORDERS:
            learned, left = start, torch.arange(count, samples, device=drawn.device)
            found = [{**first_row, "mode": "incremental", "step": 0}]
            for step in range(1, steps + 1):
                began = time.perf_counter()
                ranked = left[scores(order, learned, left).argsort(descending=True, stable=True)]
                chosen, left = ranked[:classes], ranked[classes:].sort().values
                images = problem.inputs(task.train.select(chosen))[:]
                learned = learned.extend(images, targets[chosen].to(images.device), None)
                row = measured(learned, time.perf_counter() - began)
                found.append({**row, "mode": "incremental", "step": step})
                bar.update()
            again = fit(learned.problem)
            row = measured(again, again.certificate.seconds)
            found.append({**row, "mode": "scratch", "step": steps})
            rows += [{**common, **row, "order": order} for row in found]
    return rows
