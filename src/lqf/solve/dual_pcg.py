"""Conjugate gradients on the NC dual coefficients, preconditioned by a kernel in few coordinates.

With ``δ = Jᵀa`` the optimum solves ``(K + μI) a = vec(R)``, ``K = J Jᵀ``.  The kernel of a few
thousand coordinates of J resolves single samples, which Kronecker factors average over, and needs
memory for N × C × k numbers and two vectors of size P.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from lqf.curvature.moments import second_moment
from lqf.linear.jacobian import Jacobian
from lqf.solve.pcg import OnPass, _check, _half_mean_square, _inner, _norm
from lqf.solve.protocol import Diverged, Progress, Resume, Snapshot, Solution

_LOG = logging.getLogger(__name__)

# Entries of the rows that are taken to float64 at a time.
_CHUNK = 1 << 24
# Coordinates in one product in the rows' own precision.
_COLUMNS = 512


class DualPrecondition(Protocol):
    """A symmetric positive definite M⁻¹ ≈ (K + μI)⁻¹ on vectors N × C, or k of them."""

    def apply(self, vector: Tensor) -> Tensor:
        """Return M⁻¹·vector, N × C or k × N × C."""
        ...

    def pulled_norm(self, vector: Tensor) -> float:
        """Return an estimate of ``‖Jᵀ vector‖``."""
        ...


def kernel_of_rows(rows: Tensor) -> Tensor:
    """``J̃ J̃ᵀ`` with sums in float64.

    Args:
        rows: J̃, N × C × k.

    Returns:
        NC × NC, float64.
    """
    flat = rows.flatten(0, 1)
    total = flat.new_zeros(len(flat), len(flat), dtype=torch.float64)
    for part in flat.split(_COLUMNS, 1):
        total += second_moment(part[None])[0]
    return total


class KernelPreconditioner:
    """``(J̃ J̃ᵀ + (τ + μ) I)⁻¹`` from rows J̃ in k coordinates, and what they leave out.

    One Cholesky factorisation in float64, of size NC where there are fewer rows than coordinates
    (an application is then a triangular solve), else of size k (an application reads J̃ twice).

    Args:
        rows: J̃, N × C × k: `lqf.curvature.Coordinates.rows`.
        mu: μ = N·wd > 0.
        missing: τ ≥ 0, the mean of ``‖J_ic‖²`` outside the coordinates; part of it is added to
            the diagonal, since what is left out belongs to each row by itself, mostly.
        share: the part.
        gram: ``J̃ J̃ᵀ``, NC × NC, float64, if it is known; used where NC ≤ k.

    Raises:
        ValueError: if μ is not positive, or a row is not finite.
    """

    def __init__(
        self,
        rows: Tensor,
        mu: float,
        missing: float = 0.0,
        share: float = 0.3,
        gram: Tensor | None = None,
    ) -> None:
        if not 0 < mu < math.inf or not 0 <= missing < math.inf:
            raise ValueError(
                f"mu is {mu!r} and missing is {missing!r}; the ridge constant must be a finite "
                "number > 0 and what is missing one ≥ 0."
            )
        self._rows = rows.flatten(0, 1)
        self._shift = mu + share * missing
        self._missing = missing
        count, size = self._rows.shape
        self._gram: Tensor | None = None
        if count <= size:
            self._gram = kernel_of_rows(rows) if gram is None else gram
            normal = self._gram.clone()
        else:
            normal = rows.new_zeros(size, size, dtype=torch.float64)
            for part in self._parts():
                wide = part.double()
                normal.addmm_(wide.T, wide)
        if not bool(torch.isfinite(normal).all()):
            raise ValueError("rows contains NaN or infinite entries; check the network's outputs.")
        normal.diagonal().add_(self._shift)
        self._factor = torch.linalg.cholesky(normal)

    def apply(self, vector: Tensor) -> Tensor:
        """Return M⁻¹·vector (Woodbury where NC > k), N × C or k × N × C."""
        if self._gram is not None:
            columns = vector.double().reshape(-1, len(self._rows)).T
            solved = torch.cholesky_solve(columns, self._factor)
            return solved.T.reshape(vector.shape).to(vector)
        if vector.dim() == 3:
            return self._apply_to_many(vector)
        flat = vector.reshape(-1).double()
        inner = torch.cholesky_solve(self._pull(flat)[:, None], self._factor)[:, 0]
        # In float64, since the difference cancels where the kernel is large.
        result = flat - torch.cat([part.double() @ inner for part in self._parts()])
        return (result / self._shift).reshape(vector.shape).to(vector)

    def _apply_to_many(self, vectors: Tensor) -> Tensor:
        flat = vectors.flatten(1).double().T
        parts = self._parts()
        pulled = flat.new_zeros(self._rows.shape[1], flat.shape[1])
        for rows, own in zip(parts, flat.split(len(parts[0])), strict=True):
            pulled.addmm_(rows.double().T, own)
        inner = torch.cholesky_solve(pulled, self._factor)
        result = flat - torch.cat([rows.double() @ inner for rows in parts])
        return (result / self._shift).T.reshape(vectors.shape).to(vectors)

    def _parts(self) -> tuple[Tensor, ...]:
        return self._rows.split(max(1, _CHUNK // self._rows.shape[1]))

    def _pull(self, flat: Tensor) -> Tensor:
        total = torch.zeros(self._rows.shape[1], dtype=flat.dtype, device=flat.device)
        step = max(1, _CHUNK // self._rows.shape[1])
        for rows, own in zip(self._parts(), flat.split(step), strict=True):
            total.addmv_(rows.double().T, own)
        return total

    def pulled_norm(self, vector: Tensor) -> float:
        """Return ``√(‖J̃ᵀ v‖² + τ ‖v‖²)``, about ``‖Jᵀ v‖``."""
        flat = vector.reshape(-1).double()
        if self._gram is not None:
            pulled = max(0.0, float(flat @ (self._gram @ flat))) ** 0.5
        else:
            pulled = _norm(self._pull(flat))
        return math.hypot(pulled, self._missing**0.5 * _norm(flat))


class SharedKernelPreconditioner:
    """``(k̃ ⊗ I_C + (τ + μ) I)⁻¹`` with the mean kernel k̃ (N × N) of a few combinations of outputs.

    The kernels of two outputs of a network with a random head differ little, and what one output
    does to another is smaller; so a few backward passes serve any number of outputs.

    Args:
        rows: the rows of m orthonormal combinations of outputs, N × m × k.
        mu: μ > 0.
        missing: τ, as in `KernelPreconditioner`.
    """

    def __init__(self, rows: Tensor, mu: float, missing: float = 0.0) -> None:
        mean = (rows / rows.shape[1] ** 0.5).flatten(1)
        self._one = KernelPreconditioner(mean[:, None], mu, missing)

    def apply(self, vector: Tensor) -> Tensor:
        """Return M⁻¹·vector, N × C or k × N × C."""
        columns = vector.transpose(-1, -2)
        solved = self._one.apply(columns.reshape(-1, columns.shape[-1], 1))
        return solved.reshape(columns.shape).transpose(-1, -2).contiguous()

    def pulled_norm(self, vector: Tensor) -> float:
        """Return an estimate of ``‖Jᵀ vector‖``."""
        return math.hypot(*(self._one.pulled_norm(column) for column in vector.T))


def solve_dual_pcg(
    jacobian: Jacobian,
    target: Tensor,
    weight_decay: float,
    *,
    preconditioner: DualPrecondition,
    tolerance: float = 1e-3,
    max_passes: int = 50,
    start: Tensor | None = None,
    on_pass: OnPass | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> Solution:
    """Minimise (1/2N) Σ ‖R_i − J_iδ‖² + (wd/2)‖δ‖², wd > 0, over ``δ = Jᵀa``.

    The minimiser, the residual and the certificate are those of `solve_pcg`.  One iteration is
    one pass, Jᵀz and then J of what came before; it costs 6 units of work where a pass of
    `solve_pcg` costs 5, because the two halves cannot share the run of the network.

    Args:
        jacobian: the linearised network on the N training samples.
        target: R = αY − f0, N × C.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: M⁻¹ ≈ (K + μI)⁻¹; what its rows cost is not counted here.
        tolerance: relative residual to reach.
        max_passes: budget in passes: the right-hand side (½), a warm start (½), each iteration (1)
            and the certificate (1).
        start: coefficients a to start from, N × C; None for zeros.
        on_pass: called with the number of iterations done and δ; a true value stops the run. The
            vector it is given changes with the next iteration: clone what is kept.
        progress: called as progress(done, total, note) after each iteration.
        resume: keeps the state after an iteration; a run that goes on from it ends with the same
            bits.

    Returns:
        Solution with ``coefficients`` a, and ‖(G + wd·I)δ − JᵀR/N‖ / ‖JᵀR/N‖ computed anew from
        both as its certificate. While it runs the residual is an estimate; a run that the
        certificate finds above the tolerance goes on. A budget that ends before is announced.

    Raises:
        ValueError: if an argument is out of range, or the preconditioner is not positive definite.
        Diverged: if an iterate becomes NaN or infinite.
    """
    _check(jacobian, target, weight_decay, tolerance, max_passes)
    if weight_decay == 0:
        raise ValueError("weight_decay is 0; the dual needs a ridge: use solve_pcg.")
    samples, mu = jacobian.samples, jacobian.samples * weight_decay
    target = target.to(jacobian.base)
    a = torch.zeros_like(target) if start is None else start.to(target).clone()
    history: list[dict[str, Any]] = []
    before, aim, previous, unit = math.inf, tolerance, 1.0, 1.0
    direction: Tensor | None = None
    iteration, stopped = 0, False

    def snapshot() -> Snapshot:
        tensors = {"a": a, "delta": delta, "residual": residual, "along": along}
        if direction is not None:
            tensors["direction"] = direction
        numbers = {"size": size, "relative": relative, "before": before, "aim": aim}
        numbers |= {"previous": previous, "unit": unit, "passes": passes}
        return Snapshot(tensors, {**numbers, "iteration": iteration, "history": history})

    known = None if resume is None else resume.load()
    if known is not None:
        a, delta, residual, along, direction = (
            known.tensors[name].to(target)
            for name in ("a", "delta", "residual", "along", "direction")
        )
        size, relative, before, aim, previous, unit, passes, iteration, history = (
            known.numbers[name]
            for name in (
                "size",
                "relative",
                "before",
                "aim",
                "previous",
                "unit",
                "passes",
                "iteration",
                "history",
            )
        )
    else:
        right = jacobian.pull(target)
        size, passes = _norm(right), 0.5
        if not math.isfinite(size):
            raise Diverged(0, None, None)
        if size == 0.0:
            loss = _half_mean_square(target, samples)
            zero = torch.zeros_like(right)
            return Solution(zero, passes, 0.0, True, loss, None, history, torch.zeros_like(target))
        if start is None:
            delta, residual, pulled = torch.zeros_like(right), target.clone(), size
        else:
            delta = jacobian.pull(a)
            residual, pulled = _certificate(jacobian, target, delta, a, mu)
            passes += 1.5
        relative, along = pulled / size, torch.zeros_like(delta)
    inside = known is not None
    while inside or (relative > tolerance and relative < 0.7 * before and not stopped):
        if not inside:
            if passes + 2.0 > max_passes:
                break
            # Where the estimate has just been found too low, aim lower.
            aim = tolerance if math.isinf(before) else 0.3 * tolerance
            # What the estimate is off by is known where a certificate has just been computed.
            unit = relative / max(preconditioner.pulled_norm(residual), 1e-300)
            before, direction, along, previous = relative, None, torch.zeros_like(delta), 1.0
        inside = False
        while relative > aim and passes + 2.0 <= max_passes and not stopped:
            scaled = preconditioner.apply(residual)
            product = _inner(residual.reshape(-1), scaled.reshape(-1))
            if product <= 0.0:
                raise ValueError(
                    f"rᵀM⁻¹r is {product:.3g} in iteration {iteration + 1}; the preconditioner "
                    "must be positive definite."
                )
            ratio = product / previous
            if direction is None:
                direction = scaled.clone()  # it may be the residual itself, which is written to
            else:
                direction = torch.add(scaled, direction, alpha=ratio)
            along.mul_(ratio).add_(jacobian.pull(scaled))
            previous = product
            curved = torch.add(jacobian.forward(along), direction, alpha=mu)
            curvature = _inner(direction.reshape(-1), curved.reshape(-1))
            passes += 1.0
            iteration += 1
            if not (math.isfinite(product) and math.isfinite(curvature)):
                raise Diverged(iteration, None, history[-1]["loss"] if history else None)
            if curvature <= 0.0:
                break  # what is left of the residual is rounding
            step = product / curvature
            a.add_(direction, alpha=step)
            delta.add_(along, alpha=step)
            residual.sub_(curved, alpha=step)
            relative = unit * preconditioner.pulled_norm(residual)
            # R − Jδ = r + μa
            loss = _half_mean_square(torch.add(residual, a, alpha=mu), samples)
            history.append(
                {"iteration": iteration, "passes": passes, "residual": relative, "loss": loss}
            )
            if progress is not None:
                progress(iteration, max_passes, f"residual {relative:.2e}")
            if on_pass is not None and on_pass(iteration, delta):
                stopped = True
            if resume is not None and not stopped:
                resume.offer(snapshot)
        residual, pulled = _certificate(jacobian, target, delta, a, mu)
        passes += 1.0
        relative = pulled / size
    loss = _half_mean_square(torch.add(residual, a, alpha=mu), samples)
    if not (math.isfinite(relative) and math.isfinite(loss)):
        raise Diverged(iteration, None, history[-1]["loss"] if history else None)
    converged = relative <= tolerance
    if not converged and not stopped:
        _LOG.warning(
            "conjugate gradients ended after %g of %d passes with relative residual %.2e, above "
            "the tolerance %.2e: raise max_passes, or give a preconditioner of more coordinates",
            passes,
            max_passes,
            relative,
            tolerance,
        )
    return Solution(delta, passes, relative, converged, loss, None, history, a)


def _certificate(
    jacobian: Jacobian, target: Tensor, delta: Tensor, a: Tensor, mu: float
) -> tuple[Tensor, float]:
    """``r = R − Jδ − μa`` (N × C) and ``‖JᵀR − JᵀJδ − μδ‖``, from one pass."""
    change, pulled = jacobian.pass_(delta, lambda along, rows: target[rows] - along)
    return target - change - mu * a, _norm(torch.sub(pulled, delta, alpha=mu))
