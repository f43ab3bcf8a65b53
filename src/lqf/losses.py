"""The two losses of the paper, as functions of the network's outputs.

Both return the mean over samples; the squared loss sums over outputs and carries a factor ½, so
that its Hessian in the outputs is the identity (``LQF eq. 3`` up to that factor, which rescales
λ only).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Loss(Protocol):
    """A loss on outputs f (N × C) and labels y (N)."""

    def value(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over samples, a scalar."""

    def cotangent(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Derivative of each sample's own loss by its outputs, N × C (not divided by N)."""


class SquaredLoss:
    """``½‖α y_i − f_i‖²`` with one-hot targets y_i (LQF eq. 3).

    Args:
        target_scale: α, the value of the target of the true class.
        classes: C.
    """

    def __init__(self, target_scale: float, classes: int) -> None:
        self.target_scale = target_scale
        self.classes = classes

    def targets(self, labels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """αY, N × C."""
        return self.target_scale * F.one_hot(labels, self.classes).to(dtype)

    def value(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over samples of half the squared distance to the targets."""
        return 0.5 * self.cotangent(outputs, labels).square().sum(1).mean()

    def cotangent(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``f − αY``, N × C."""
        return outputs - self.targets(labels, outputs.dtype)


class CrossEntropy:
    """Softmax cross-entropy.

    Args:
        smoothing: share of each target that is spread evenly over the classes; of the value only.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def value(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over samples."""
        return F.cross_entropy(outputs, labels, label_smoothing=self.smoothing)

    def cotangent(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``softmax(f) − y``, N × C."""
        return outputs.softmax(1) - F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)

    def hessian_root(self, outputs: Tensor) -> Tensor:
        """S with ``SSᵀ = diag(p) − ppᵀ``, the Hessian of each sample's loss in its outputs, N × C × C."""
        p = outputs.softmax(1)
        return torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)


def make_loss(name: str, target_scale: float, classes: int) -> SquaredLoss | CrossEntropy:
    """The loss a method names (``mse`` or ``cross_entropy``)."""
    return SquaredLoss(target_scale, classes) if name == "mse" else CrossEntropy()


def error_rate(outputs: Tensor, labels: Tensor) -> float:
    """Percentage of samples whose largest output is not their label's."""
    return 100.0 * (outputs.argmax(1) != labels).double().mean().item()
