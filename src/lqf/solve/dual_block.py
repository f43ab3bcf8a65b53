"""Several right-hand sides of the dual at a time: they share every run of the network.

Where uncertainty or leverage is asked for, one matrix meets many right-hand sides.  The network at
w0 runs once for the k cotangents and once for the k tangents of an iteration, where `solve_dual_pcg`
runs it for each.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.linear.jacobian import Jacobian
from lqf.solve.dual_pcg import DualPrecondition
from lqf.solve.protocol import Diverged, Progress

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockSolution:
    """Solutions ``a_j`` of ``(K + μI) a_j = b_j``.

    Args:
        coefficients: a, k × N × C.
        delta: ``Jᵀa``, k × P.
        residuals: ``‖b_j − (K + μI) a_j‖ / ‖b_j‖``, computed anew from a; k, float64.
        converged: whether each is within the tolerance; k.
        passes: passes over the samples, each for all right-hand sides that were still open.
    """

    coefficients: Tensor
    delta: Tensor
    residuals: Tensor
    converged: Tensor
    passes: float


def solve_dual_block(
    jacobian: Jacobian,
    targets: Tensor,
    weight_decay: float,
    *,
    preconditioner: DualPrecondition,
    tolerance: float = 1e-6,
    max_passes: int = 50,
    progress: Progress | None = None,
) -> BlockSolution:
    """Solve ``(K + μI) a_j = b_j`` for k right-hand sides by conjugate gradients, together.

    Each has its own step lengths, so each takes the iterations it would take alone, and leaves the
    block when its residual is there.  Memory: two blocks of k × P.

    Args:
        jacobian: J of the N training samples.
        targets: b, k × N × C.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: M⁻¹ ≈ (K + μI)⁻¹.
        tolerance: relative residual of each, in the dual.
        max_passes: budget in passes; each iteration and each certificate takes one.
        progress: called as progress(done, total, note) after each iteration.

    Returns:
        The solutions with their certificates.  A budget that ends before is announced.

    Raises:
        ValueError: if an argument is out of range, or the preconditioner is not positive definite.
        Diverged: if an iterate becomes NaN or infinite.
    """
    mu = _checked(jacobian, targets, weight_decay, tolerance, max_passes)
    b = targets.to(jacobian.base)
    size = _norms(b).clamp(min=torch.finfo(torch.float64).tiny)
    a, residual = torch.zeros_like(b), b.clone()
    delta = b.new_zeros(len(b), jacobian.size)
    relative, passes, iteration = _norms(residual) / size, 0.0, 0
    before = torch.full_like(relative, math.inf)
    # A round ends with a certificate; one that rounding keeps from halving a residual is the last.
    while passes + 2.0 <= max_passes:
        open_ = (relative > tolerance) & (relative < 0.5 * before)
        if not bool(open_.any()):
            break
        before = torch.where(open_, relative, before)
        active = open_.nonzero()[:, 0]
        direction, previous = torch.zeros_like(b), torch.ones_like(relative)
        while len(active) and passes + 2.0 <= max_passes:
            r = residual[active]
            scaled = preconditioner.apply(r)
            product = _inners(r, scaled)
            if bool((product <= 0).any()):
                raise ValueError(
                    f"rᵀM⁻¹r is {float(product.min()):.3g} in iteration {iteration + 1}; the "
                    "preconditioner must be positive definite."
                )
            ratio = (product / previous[active])[:, None, None].to(b)
            d = scaled + ratio * direction[active]
            curved = jacobian.forward(jacobian.pull(d)) + mu * d
            step = (product / _inners(d, curved))[:, None, None].to(b)
            direction[active], previous[active] = d, product
            a[active] += step * d
            residual[active] = r - step * curved
            passes, iteration = passes + 1.0, iteration + 1
            relative[active] = _norms(residual[active]) / size[active]
            if not bool(torch.isfinite(relative).all()):
                raise Diverged(iteration, None, None)
            active = active[relative[active] > tolerance]
            if progress is not None:
                progress(iteration, max_passes, f"residual {float(relative.max()):.2e}")
        delta = jacobian.pull(a)
        residual = b - jacobian.forward(delta) - mu * a
        relative, passes = _norms(residual) / size, passes + 1.0
    converged = relative <= tolerance
    if not bool(converged.all()):
        _LOG.warning(
            "%d of %d right-hand sides ended after %g of %d passes with relative residuals up to "
            "%.2e, above the tolerance %.2e: raise max_passes, or give a preconditioner of more "
            "coordinates",
            int((~converged).sum()),
            len(b),
            passes,
            max_passes,
            float(relative.max()),
            tolerance,
        )
    return BlockSolution(a, delta, relative, converged, passes)


def _checked(
    jacobian: Jacobian, targets: Tensor, weight_decay: float, tolerance: float, max_passes: int
) -> float:
    """Returns μ.

    Raises:
        ValueError: if an argument is out of range.
    """
    if targets.dim() != 3 or not len(targets) or targets.shape[1:] != jacobian.base.shape:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}; k × N × C is needed, with N × C "
            f"{tuple(jacobian.base.shape)} and k ≥ 1."
        )
    if not 0 < weight_decay < math.inf:
        raise ValueError(f"weight_decay is {weight_decay!r}; it must be a finite number > 0.")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance!r}; it must be between 0 and 1.")
    if max_passes < 2:
        raise ValueError(
            f"max_passes is {max_passes!r}; at least 2 are needed, one for an iteration and one "
            "for the certificate."
        )
    return jacobian.samples * weight_decay


def _norms(block: Tensor) -> Tensor:
    return block.flatten(1).double().norm(dim=1)


def _inners(block: Tensor, other: Tensor) -> Tensor:
    return (block.flatten(1).double() * other.flatten(1).double()).sum(1)
