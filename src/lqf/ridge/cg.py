"""Conjugate gradients on the dual coefficients: ``(K + μΩ⁻¹) a = R`` for one or several R.

In the dual no iterate leaves the row space of J in the metric of the prior, and the state is N·C
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.ridge.protocol import Diverged, Resume, Snapshot

# K a for k × N × C coefficients; the same shape.
Kernel = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DualSolution:
    """Dual coefficients and how they were found.

    Attributes:
        coefficients: a, k × N × C.
        residual: the largest ``‖R − Ka − μΩ⁻¹a‖/‖R‖`` of the k, as the recurrence has it.
        iterations: products with K.
    """

    coefficients: Tensor
    residual: float
    iterations: int


def solve_dual(
    kernel: Kernel,
    target: Tensor,
    shift: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    precondition: Kernel | None = None,
    start: Tensor | None = None,
    resume: Resume | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DualSolution:
    """Solve ``(K + μΩ⁻¹) a = R``; the k problems share every product with K.

    Args:
        kernel: the product with K.
        target: R, k × N × C.
        shift: μ/ω, N.
        tolerance: relative residual to reach.
        max_iterations: where to stop in any case.
        precondition: a symmetric positive definite approximation of the inverse; None for the identity.
        start: a to start from, k × N × C; None for zeros.
        resume: keeps the state after an iteration.
        progress: called as progress(done, total, note) after each iteration.

    Returns:
        The solution; whether the tolerance is met is seen from its residual.

    Raises:
        Diverged: if a number becomes NaN or infinite.
    """
    shift = shift.to(target)[:, None]
    size = _norm(target).clamp(min=torch.finfo(target.dtype).tiny)
    iterations = 0
    if start is None:
        a, r = torch.zeros_like(target), target.clone()
    else:
        a = start.clone()
        r = target - kernel(a) - shift * a
        iterations = 1
    precondition = precondition or Tensor.clone
    p = precondition(r)
    square = _dot(r, p)
    if resume is not None and (known := resume.load()) is not None:
        a, r, p = (known.tensors[name].to(target) for name in ("a", "r", "p"))
        square, iterations = _dot(r, precondition(r)), known.numbers["iterations"]
    while iterations < max_iterations and bool((_norm(r) > tolerance * size).any()):
        q = kernel(p) + shift * p
        curvature = _dot(p, q)
        step = torch.where(curvature > 0, square / curvature.clamp(min=1e-300), 0.0)
        step = step.to(target)
        a, r = a + step * p, r - step * q
        z = precondition(r)
        after = _dot(r, z)
        if not bool(torch.isfinite(after).all()):
            raise Diverged(iterations + 1, None, None)
        turn = torch.where(square > 0, after / square.clamp(min=1e-300), 0.0)
        p = z + turn.to(target) * p
        square = after
        iterations += 1
        if progress is not None:
            progress(iterations, max_iterations, f"residual {float((_norm(r) / size).max()):.1e}")
        if resume is not None:
            resume.offer(
                lambda state=(a, r, p), done=iterations: Snapshot(  # type: ignore[misc]
                    dict(zip(("a", "r", "p"), state, strict=True)), {"iterations": done}
                )
            )
    return DualSolution(a, float((_norm(r) / size).max()), iterations)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() * y.double()).sum((1, 2), keepdim=True)


def _norm(x: Tensor) -> Tensor:
    return x.double().square().sum((1, 2), keepdim=True).sqrt()
