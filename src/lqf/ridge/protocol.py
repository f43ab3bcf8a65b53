"""What every solver takes and returns.

The objective of every gradient method in this folder, with its constants, is

    L(δ) = (1/N) Σ_i ℓ(f0_i + J_i δ, y_i) + (wd/2) ‖δ‖²,

a mean over the N samples of a sum over the C outputs. For the squared loss ℓ = ½‖R_i − J_iδ‖² with
R = αY − f0 its Hessian is G + wd·I with G = (1/N) Σ_i J_iᵀJ_i, and its minimiser is the ridge
solution of Σ_i ‖R_i − J_iδ‖² + μ‖δ‖² at μ = N·wd.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lqf.jacobian.operators import Jacobian


class Precondition(Protocol):
    """A symmetric positive definite metric M ≈ G + damping·I (`lqf.curvature.Metric`)."""

    def solve(self, vector: Tensor) -> Tensor:
        """Return M⁻¹·vector; the last dimension of `vector` has size P."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """All that a computation needs to go on from where it is, bit by bit.

    Attributes:
        tensors: by name.
        numbers: plain values (numbers, texts, lists and mappings of them), by name.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Resume(Protocol):
    """Where a computation keeps its newest state, and finds that of a process that was killed."""

    def load(self) -> Snapshot | None:
        """The state to go on from; None to begin."""
        ...

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        """Called wherever the computation could go on from; makes a snapshot when one is due."""
        ...


@dataclass(frozen=True)
class Solution:
    """Where descent has come to.

    Attributes:
        delta: δ = w − w0, P.
        loss: mean loss over the samples at ``delta``, without the penalty.
        epochs: epochs run; each is a pass over the samples, and the final loss half a one.
    """

    delta: Tensor
    loss: float
    epochs: int


class Diverged(ArithmeticError):
    """A loss or an iterate became NaN or infinite.

    Attributes:
        epoch: epoch (or iteration) in which it happened, counted from 1.
        rate: learning rate in that epoch, None for solvers without one.
        last_loss: last finite mean loss, None if there was none.
    """

    def __init__(self, epoch: int, rate: float | None, last_loss: float | None) -> None:
        """Keep the numbers a sweep records."""
        super().__init__(epoch, rate, last_loss)
        self.epoch = epoch
        self.rate = rate
        self.last_loss = last_loss

    def __str__(self) -> str:
        """Return one sentence that says when it happened and what to change."""
        last = "none was finite" if self.last_loss is None else f"{self.last_loss:.6g}"
        if self.rate is None:
            return (
                f"The solution became NaN, infinite or far worse than its start in iteration "
                f"{self.epoch} (last finite loss: {last}); check the inputs for NaN, raise weight_decay, or compute in float64."
            )
        return (
            f"The loss became NaN, infinite or far worse than its start in epoch {self.epoch} at "
            f"learning rate {self.rate:g} (last finite loss: {last}); choose a smaller rate."
        )


def check_weight_decay(weight_decay: float) -> None:
    """Refuse a weight decay wd, of ½‖δ‖², with which the objective has no minimum.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(
            f"weight_decay is {weight_decay!r}; it must be a finite number ≥ 0 "
            "(μ = N·weight_decay in the sum form of the ridge)."
        )


def start_vector(jacobian: Jacobian, start: Tensor | None) -> Tensor:
    """A private copy of the starting point δ, P, in the dtype and where the Jacobian is; zeros if none was given.

    Raises:
        ValueError: if `start` has another shape or is not finite.
    """
    if start is None:
        return jacobian.base.new_zeros(jacobian.size)
    if tuple(start.shape) != (jacobian.size,):
        raise ValueError(
            f"start has shape {tuple(start.shape)}; it must be a flat δ of shape "
            f"({jacobian.size},), as returned in Solution.delta for the same parameters."
        )
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start has NaN or infinite entries; start from None (zeros) instead.")
    return start.detach().to(jacobian.base).clone()
