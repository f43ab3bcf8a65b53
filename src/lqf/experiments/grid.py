"""The points of a method's grid, in one form for every solver."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lqf.method import Method


@dataclass(frozen=True)
class Point:
    """One setting of the numbers that a grid varies; None where a solver has no such number.

    Args:
        weight_decay: coupled decay, on w − w0 in linear problems (μ = N · weight_decay); 0 where an exact
            solver chooses it.
        rate: learning rate.
        relative: the rate is in units of 1/λ_max of the preconditioned Hessian.
        batch: samples a step.
        epochs: passes over the training samples.
        momentum: heavy-ball momentum.
        milestones: fractions of the epochs at which the rate is multiplied by ``decay``.
        decay: the factor.
        batch_norm: ``train`` or ``frozen``.
        damping: damping of the preconditioner, in units of the mean curvature.
        tolerance: relative residual at which an exact solver stops.
        max_passes: passes at which it gives up.
        optimizer: of non-linear training, see `lqf.method`.
        label_smoothing: share of a target that is spread over the classes, in non-linear training.
        augment: a random crop and flip of every training image in every epoch.
    """

    weight_decay: float
    rate: float | None = None
    relative: bool = False
    batch: int | None = None
    epochs: int | None = None
    momentum: float | None = None
    milestones: tuple[float, ...] = ()
    decay: float = 1.0
    batch_norm: str = "frozen"
    damping: float | None = None
    tolerance: float = 1e-6
    max_passes: int = 1
    optimizer: str = "sgd"
    label_smoothing: float = 0.0
    augment: bool = False


def grid_points(method: Method, training: Mapping[str, Any]) -> list[Point]:
    """Every point of a section of ``training``.

    Rates of ``kfac_sgd``, and of ``sgd`` where its section says ``relative``, are in units of 1/λ_max
    of the (preconditioned) Hessian; all others are learning rates as they stand.

    Args:
        method: decides which keys of the section there are.
        training: the section ``training.<method.training>``.
    """
    relative = method.optimizer == "kfac_sgd" or training.get("relative", False)
    fixed: dict[str, Any] = {"relative": relative}
    for key in (
        "batch",
        "epochs",
        "momentum",
        "decay",
        "tolerance",
        "max_passes",
        "augment",
        "label_smoothing",
    ):
        if key in training:
            fixed[key] = training[key]
    if method.trained == "all":
        fixed["optimizer"] = method.optimizer
    if "milestones" in training:
        fixed["milestones"] = tuple(training["milestones"])

    def choices() -> Iterator[dict[str, Any]]:
        modes = training.get("batch_norm", ["frozen"]) if method.trained == "all" else ["frozen"]
        rates = training.get("rates", [None])
        decays = training.get("weight_decays", [0.0])
        dampings = training.get("dampings", [None])
        for mode, damping, decay, rate in itertools.product(modes, dampings, decays, rates):
            yield {"batch_norm": mode, "damping": damping, "weight_decay": decay, "rate": rate}

    return [Point(**fixed, **choice) for choice in choices()]
