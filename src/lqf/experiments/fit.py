"""What training at one grid point gives, and when it has diverged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lqf.experiments.task import Split

#: A fit that ends at more than this many times the loss it started from has diverged.
DIVERGED = 10.0


@dataclass(frozen=True)
class Fit:
    """What training at one grid point gives.

    Args:
        outputs: maps images (M × 3 × H × W) to outputs (M × C).
        train_loss: mean training loss, without the penalty.
        epochs: epochs done, or None for exact solvers.
        passes: passes over the training samples.
        residual: relative residual of the stationarity condition, where the solver states one.
        network: the trained network, for non-linear methods.
        delta: w − w0, for linear ones.
        chosen: columns of ``metrics.csv`` that the fit has chosen itself.
    """

    outputs: Callable[[Split], Tensor]
    train_loss: float
    epochs: int | None
    passes: float | None
    residual: float | None = None
    network: nn.Module | None = None
    delta: Tensor | None = None
    chosen: Mapping[str, Any] | None = None
