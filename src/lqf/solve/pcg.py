"""Preconditioned conjugate gradients: no learning rate, and a certificate at the end."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lqf.linear.jacobian import Jacobian
from lqf.solve.protocol import (
    Diverged,
    Precondition,
    Progress,
    Resume,
    Snapshot,
    Solution,
    check_weight_decay,
    start_vector,
)

_LOG = logging.getLogger(__name__)

# Elements of a vector converted to float64 at a time in a scalar product.
_CHUNK = 1 << 22

# on_pass(iterations done, delta) -> True to stop.
OnPass = Callable[[int, Tensor], bool | None]


def solve_pcg(
    jacobian: Jacobian,
    target: Tensor,
    weight_decay: float,
    *,
    preconditioner: Precondition | None = None,
    tolerance: float = 1e-3,
    max_passes: int = 50,
    start: Tensor | None = None,
    on_pass: OnPass | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> Solution:
    """Minimise (1/2N) Σ ‖R_i − J_iδ‖² + (wd/2)‖δ‖² by preconditioned conjugate gradients.

    Solves (G + wd·I)δ = JᵀR/N. One iteration is one pass over the samples (Jp and Jᵀ(Jp)). Scalars
    are reduced in float64. At the end the residual is computed anew from δ, not carried by the
    recurrence; where rounding made the two differ, the iteration restarts from the true residual.

    Args:
        jacobian: the linearised network on the N training samples.
        target: R = αY − f0, N × C.
        weight_decay: wd; μ = N·wd.
        preconditioner: P ≈ (G + wd·I)⁻¹, None for the identity.
        tolerance: relative residual to reach.
        max_passes: budget in passes over the samples: the right-hand side (½), a warm start (1),
            each iteration (1) and the certificate (1).
        start: δ to start from; None for zeros.
        on_pass: called with the number of iterations done and δ; a true value stops the run. The
            vector it is given changes with the next iteration: clone what is kept.
        progress: called as progress(done, total, note) after each iteration.
        resume: keeps the state after an iteration; a run that goes on from it ends with the same
            bits.

    Returns:
        Solution with the relative residual ‖(G + wd·I)δ − JᵀR/N‖ / ‖JᵀR/N‖ as its certificate.
        A budget that ends before the tolerance is met is announced by a warning.

    Raises:
        ValueError: if an argument is out of range, or the preconditioner is not positive definite.
        Diverged: if an iterate becomes NaN or infinite.
    """
    _check(jacobian, target, weight_decay, tolerance, max_passes)
    samples = jacobian.samples
    target = target.to(jacobian.base)
    delta = start_vector(jacobian, start)

    history: list[dict[str, Any]] = []
    before, previous = math.inf, 1.0
    direction: Tensor | None = None
    iteration, stopped = 0, False

    def snapshot() -> Snapshot:
        vectors = {"delta": delta, "residual": residual, "outputs": outputs}
        numbers = {"size": size, "before": before, "previous": previous, "passes": passes}
        if direction is not None:
            vectors["direction"] = direction
        return Snapshot(vectors, {**numbers, "iteration": iteration, "history": history})

    known = None if resume is None else resume.load()
    if known is not None:
        delta, residual, outputs, direction = (
            known.tensors[name].to(jacobian.base)
            for name in ("delta", "residual", "outputs", "direction")
        )
        size, before, previous, passes, iteration, history = (
            known.numbers[name]
            for name in ("size", "before", "previous", "passes", "iteration", "history")
        )
    else:
        right = jacobian.pull(target) / samples
        passes = 0.5
        size = _norm(right)
        if not math.isfinite(size):
            raise Diverged(0, None, None)
        if size == 0.0:
            loss = _half_mean_square(target, samples)
            return Solution(torch.zeros_like(delta), passes, 0.0, True, loss, None, history)
        if start is None:
            outputs, residual = torch.zeros_like(target), right.clone()
        else:
            outputs, residual = _true_residual(jacobian, target, delta, weight_decay)
            passes += 1.0
    relative = _norm(residual) / size
    # A round ends with a certificate. The next one starts from the true residual; where rounding
    # keeps a round from halving it, there is no further one. One pass is left for the certificate.
    inside = known is not None
    while inside or (relative > tolerance and relative < 0.5 * before and not stopped):
        if not inside:
            if passes + 2.0 > max_passes:
                break
            before, direction, previous = relative, None, 1.0
        inside = False
        while relative > tolerance and passes + 2.0 <= max_passes and not stopped:
            scaled = residual if preconditioner is None else preconditioner.apply(residual)
            product = _inner(residual, scaled)
            if product <= 0.0:
                raise ValueError(
                    f"rᵀPr is {product:.3g} in iteration {iteration + 1}; the preconditioner must "
                    "be positive definite: use a positive damping."
                )
            if direction is None:
                direction = scaled.clone()
            else:
                direction = torch.add(scaled, direction, alpha=product / previous)
            previous = product
            change, curved = jacobian.pass_(direction, lambda along, _: along)
            curved = curved / samples + weight_decay * direction
            curvature = _inner(direction, curved)
            passes += 1.0
            iteration += 1
            if not (math.isfinite(product) and math.isfinite(curvature)):
                raise Diverged(iteration, None, history[-1]["loss"] if history else None)
            if curvature <= 0.0:
                break  # weight_decay is 0 and what is left of the residual is rounding
            step = product / curvature
            delta.add_(direction, alpha=step)
            outputs = torch.add(outputs, change, alpha=step)
            residual.sub_(curved, alpha=step)
            relative = _norm(residual) / size
            loss = _half_mean_square(target - outputs, samples)
            history.append(
                {"iteration": iteration, "passes": passes, "residual": relative, "loss": loss}
            )
            if progress is not None:
                progress(iteration, max_passes, f"residual {relative:.2e}")
            if on_pass is not None and on_pass(iteration, delta):
                stopped = True
            if resume is not None and not stopped:
                resume.offer(snapshot)
        outputs, residual = _true_residual(jacobian, target, delta, weight_decay)
        passes += 1.0
        relative = _norm(residual) / size
    loss = _half_mean_square(target - outputs, samples)
    if not (math.isfinite(relative) and math.isfinite(loss)):
        raise Diverged(iteration, None, history[-1]["loss"] if history else None)
    converged = relative <= tolerance
    if not converged and not stopped:
        _LOG.warning(
            "conjugate gradients ended after %g of %d passes with relative residual %.2e, above "
            "the tolerance %.2e: raise max_passes, or give a better preconditioner",
            passes,
            max_passes,
            relative,
            tolerance,
        )
    return Solution(delta, passes, relative, converged, loss, None, history)


def _true_residual(
    jacobian: Jacobian, target: Tensor, delta: Tensor, weight_decay: float
) -> tuple[Tensor, Tensor]:
    outputs, pulled = jacobian.pass_(delta, lambda change, rows: target[rows] - change)
    return outputs, pulled / jacobian.samples - weight_decay * delta


def _inner(a: Tensor, b: Tensor) -> float:
    """Return aᵀb, reduced in float64 in pieces."""
    pieces = zip(a.split(_CHUNK), b.split(_CHUNK), strict=True)
    return math.fsum(float(x.double() @ y.double()) for x, y in pieces)


def _norm(vector: Tensor) -> float:
    return math.sqrt(_inner(vector, vector))


def _half_mean_square(error: Tensor, samples: int) -> float:
    return 0.5 * _inner(error.reshape(-1), error.reshape(-1)) / samples


def _check(
    jacobian: Jacobian, target: Tensor, weight_decay: float, tolerance: float, max_passes: int
) -> None:
    check_weight_decay(weight_decay)
    if target.shape != jacobian.base.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; R = αY − f0 has the shape of the outputs, "
            f"{tuple(jacobian.base.shape)}."
        )
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance!r}; a relative residual in (0, 1) is needed.")
    if max_passes < 3:
        raise ValueError(
            f"max_passes is {max_passes}; the right-hand side, one iteration and the certificate "
            "need at least 3."
        )
