"""Exact leave-one-out: the outputs of N retrained models from one solution, without retraining.

Removing sample i at unchanged μ, its residual under the remaining model's optimum is
``(I − H_ii)⁻¹ r_i = G_ii⁻¹ a_i`` (see `lqf.influence.dual` for the letters).  The second form
has no cancellation as the leverage tends to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.influence.dual import DualRidge


@dataclass(frozen=True)
class LeaveOneOut:
    """What each training sample's own prediction is when the model has not seen it.

    Args:
        residuals: ``αy_i − f₋ᵢ(x_i)``, N × C.
        outputs: ``f₋ᵢ(x_i)``, N × C.
        error: percentage of samples that the model without them gets wrong; None without labels.
        exact: False where a Kronecker approximation stands for the inverse.
    """

    residuals: Tensor
    outputs: Tensor
    error: float | None
    exact: bool = True


def leave_one_out_residuals(gram: Tensor, target: Tensor, mu: float) -> Tensor:
    """``αy_i − f₋ᵢ(x_i)`` for every sample.

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        target: R = αY − f0, N × C.
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.

    Returns:
        The residuals, N × C.
    """
    return DualRidge(gram, target, mu).leave_one_out()


def leave_one_out_outputs(
    gram: Tensor, target: Tensor, mu: float, base: Tensor | None = None
) -> Tensor:
    """``f₋ᵢ(x_i)`` for every sample: its outputs under the model trained without it.

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        target: R = αY − f0, N × C.
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.
        base: f0, N × C; None leaves it out: ``J_i δ₋ᵢ``, the change from f0.

    Returns:
        The outputs, N × C.
    """
    change = target - leave_one_out_residuals(gram, target, mu)
    return change if base is None else base.to(torch.float64) + change


def leave_one_out_error(
    gram: Tensor, target: Tensor, mu: float, base: Tensor, labels: Tensor
) -> float:
    """Percentage of the training samples that the model without them gets wrong.

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        target: R = αY − f0, N × C.
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.
        base: f0, N × C.
        labels: y, N.

    Returns:
        The error in %.
    """
    return _error(leave_one_out_outputs(gram, target, mu, base), labels)


def leave_one_out(solution: DualRidge, base: Tensor, labels: Tensor | None = None) -> LeaveOneOut:
    """Residuals, outputs and error from a solution that is already there.

    Args:
        solution: the dual solution.
        base: f0, N × C.
        labels: y, N.

    Returns:
        All three.
    """
    residuals = solution.leave_one_out()
    outputs = base.to(residuals) + solution.target - residuals
    return LeaveOneOut(residuals, outputs, None if labels is None else _error(outputs, labels))


def leverage_blocks(gram: Tensor, target: Tensor, mu: float) -> Tensor:
    """The leverage ``H_ii = J_i A⁻¹ J_iᵀ`` of every sample.

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        target: R, N × C (only its shape matters).
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.

    Returns:
        N × C × C, or N × 1 × 1 for a shared kernel; eigenvalues lie in [0, 1).
    """
    return DualRidge(gram, target, mu).leverage()


def _error(outputs: Tensor, labels: Tensor) -> float:
    return 100.0 * (outputs.argmax(1) != labels).double().mean().item()
