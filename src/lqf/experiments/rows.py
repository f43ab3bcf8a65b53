"""From fits to rows of ``metrics.csv``: errors, provenance, and which grid point was selected."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lqf.checkpoint import Points
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point
from lqf.experiments.problem import Problem
from lqf.experiments.task import Settings, Task
from lqf.losses import error_rate, make_loss
from lqf.method import Method
from lqf.ridge import Diverged
from lqf.run import device, progress

log = logging.getLogger(__name__)

Row = dict[str, Any]


def describe(method_name: str, method: Method, task: Task, settings: Settings, seed: int) -> Row:
    """The columns that are the same for every grid point of a job."""
    return {
        "dataset": task.name,
        "method": method_name,
        "seed": seed,
        "n_train": len(task.train),
        "n_val": len(task.val),
        "n_test": len(task.test),
        "classes": task.classes,
        "network": settings["backbone"]["network"],
        "activation": method.activation,
        "slope": settings["backbone"]["slope"] if method.activation == "leaky_relu" else 0.0,
        "trained": method.trained,
        "loss": method.loss,
        "target_scale": settings["target_scale"] if method.loss == "mse" else None,
        "optimizer": method.optimizer,
        "regularizer": method.regularizer,
        "pooling": method.pooling,
        "device": device().type,
    }


def point_columns(point: Point, problem: Problem, method: Method, task: Task) -> Row:
    """The columns of a grid point; ELR = η / ((1 − m) b) (LQF §4.7)."""
    linear = method.trained != "all"
    rate, elr = problem.rate(point), None
    if rate is not None and point.batch is not None and point.momentum is not None:
        elr = rate / ((1 - point.momentum) * point.batch)
    return {
        "damping": point.damping,
        "rate": rate,
        "momentum": point.momentum,
        "batch": point.batch,
        "elr": elr,
        "weight_decay": point.weight_decay,
        "mu": len(task.train) * point.weight_decay if linear and point.weight_decay else None,
        "batch_norm": point.batch_norm,
    }


def fit_columns(fit: Fit, task: Task) -> tuple[Row, Tensor]:
    """The columns that measure a fit (errors in %), and its outputs on the validation split.

    Raises:
        Diverged: if an output is not finite.
    """
    outputs = {
        name: fit.outputs(split)
        for name, split in (("train", task.train), ("val", task.val), ("test", task.test))
    }
    if not all(bool(torch.isfinite(each).all()) for each in outputs.values()):
        raise Diverged(fit.epochs or 0, None, fit.train_loss)
    return {
        "epochs": fit.epochs,
        "train_err": error_rate(outputs["train"], task.train.labels),
        "val_err": error_rate(outputs["val"], task.val.labels),
        "test_err": error_rate(outputs["test"], task.test.labels),
        "train_loss": fit.train_loss,
        "residual": fit.residual,
        "passes": fit.passes,
        "status": "ok",
    }, outputs["val"]


def fit_grid(
    name: str,
    method: Method,
    problem: Problem,
    task: Task,
    points: Iterable[Point],
    settings: Settings,
    seed: int,
    title: str,
) -> tuple[list[Row], dict[int, Fit]]:
    """Train at every grid point; a point that diverges is recorded and the others go on.

    Args:
        name: name of the method.
        method: the method.
        problem: its problem on the task.
        task: the task.
        points: the grid.
        settings: the job's settings.
        seed: order of the samples.
        title: what the progress bar says.

    Returns:
        One row a point, with the selected ones marked, and the fits by row number; a point that
        was finished before the job was interrupted (`lqf.checkpoint`) has no fit.
    """
    rows: list[Row] = []
    fits: dict[int, Fit] = {}
    losses: dict[int, float] = {}
    common = describe(name, method, task, settings, seed)
    loss = make_loss(method.loss, settings["target_scale"], task.classes)
    points = list(points)
    finished = Points(title)
    with progress(len(points), title, "point") as bar:
        for number, point in enumerate(points):
            if known := finished.get(point):
                rows.append(known["row"])
                if known["val_loss"] is not None:
                    losses[number] = known["val_loss"]
                bar.update()
                continue
            started = time.perf_counter()
            state = finished.state(point)
            row = {**common, **point_columns(point, problem, method, task)}
            try:
                fit = problem.fit(point, seed, resume=state)
                measured, outputs = fit_columns(fit, task)
                row |= measured | dict(fit.chosen or {})
                fits[number] = fit
                losses[number] = loss.value(outputs, task.val.labels).item()
            except Diverged as error:
                log.warning("%s, grid point %d of %d: %s", title, number + 1, len(points), error)
                row |= {"epochs": error.epoch, "status": "diverged", "message": str(error)}
            row["wall_s"] = state.seconds + time.perf_counter() - started
            finished.put(point, {"row": row, "val_loss": losses.get(number)})
            state.forget()
            rows.append(row)
            bar.update()
    mark_selected(rows, losses)
    return rows, fits


def mark_selected(rows: list[Row], val_losses: dict[int, float]) -> None:
    """Mark the row with the least validation error, and the one with the least test error.

    Ties in the validation error go to the smaller validation loss; the second mark is the
    paper's "best result", selected on test.
    """
    for row in rows:
        row |= {"selected_val": False, "selected_test": False}
    finite = [n for n, row in enumerate(rows) if row["status"] == "ok"]
    if not finite:
        return
    best = min(finite, key=lambda n: (rows[n]["val_err"], val_losses[n], n))
    rows[best]["selected_val"] = True
    rows[min(finite, key=lambda n: (rows[n]["test_err"], n))]["selected_test"] = True
