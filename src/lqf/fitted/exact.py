"""Problems small enough to hold J: solved in the dual, and every question answered exactly."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from lqf.fitted.optimum import Certificate, Problem, in_batches
from lqf.influence import (
    DualRidge,
    LeaveOneOut,
    add,
    influence,
    leave_one_out,
    predictive_covariance,
    remove,
)
from lqf.influence.informativeness import mean_squared_response
from lqf.linear import Linearized
from lqf.solve import RidgeChoice, RidgePath
from lqf.solve.ridge_path import Criterion

log = logging.getLogger(__name__)

_COLUMNS = 2**16
_BATCH = 32
MAX_ROWS = 4096
MAX_BYTES = 2**30


def fits(samples: int, outputs: int, size: int, itemsize: int) -> bool:
    """Whether J (NC × P) and the Gram matrix (NC × NC) are small enough to be held.

    Args:
        samples: N.
        outputs: C.
        size: P.
        itemsize: bytes of an entry of J.

    Returns:
        True if both are.
    """
    rows = samples * outputs
    return rows <= MAX_ROWS and rows * size * itemsize <= MAX_BYTES


class ExactOptimum:
    """The dual solution of a small problem.

    Args:
        problem: the problem.
        solution: its dual solution.
        base: f0 of the training samples, N × C.
        delta: δ, P, float64.
        certificate: the evidence for it.
        rows: J, N × C × P; None computes it when it is needed.
        choice: how μ was chosen; None where it was given.
    """

    def __init__(
        self,
        problem: Problem,
        solution: DualRidge,
        base: Tensor,
        delta: Tensor,
        certificate: Certificate,
        rows: Tensor | None = None,
        choice: RidgeChoice | None = None,
    ) -> None:
        self.problem = problem
        self.solution = solution
        self.base = base
        self.mu = solution.mu
        self.delta = delta
        self.certificate = certificate
        self.choice = choice
        self._rows = rows

    @classmethod
    def fit(cls, problem: Problem, ridge: float | str) -> ExactOptimum:
        """Compute J, choose μ, and solve.

        Args:
            problem: the problem.
            ridge: μ, or ``loo`` or ``gcv`` to choose it by.

        Returns:
            The optimum.
        """
        start = time.perf_counter()
        rows = jacobian_rows(problem.linearized, problem.images, "J")
        base = in_batches(problem.linearized, problem.images)
        target = problem.residual_target(base.double())
        gram = _product(rows.flatten(0, 1), rows.flatten(0, 1))
        choice = None
        if isinstance(ridge, str):
            criterion: Criterion = "gcv" if ridge == "gcv" else "loo"
            choice = RidgePath(gram, target).choose(criterion=criterion)
        mu = float(ridge) if choice is None else choice.mu
        if choice is not None and choice.at_edge:
            log.warning("mu = %.3g lies at the edge of what was searched", mu)
        optimum = _certified(
            problem, DualRidge(gram, target, mu), base, rows, problem.classes / 2, start, None
        )
        optimum.choice = choice
        return optimum

    @property
    def rows(self) -> Tensor:
        """J of the training samples, N × C × P."""
        if self._rows is None:
            self._rows = jacobian_rows(self.problem.linearized, self.problem.images, "J")
        return self._rows

    def leave_one_out(self) -> LeaveOneOut:
        """Exact leave-one-out outputs, residuals and error.

        Returns:
            All of them.
        """
        return leave_one_out(self.solution, self.base, self.problem.labels)

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, exactly.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × N × C, float64.
        """
        parts = [influence(self.solution, cross) for cross in self._cross(images, "influence")]
        return torch.cat(parts)

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9), exactly.

        Args:
            images: M × 3 × H × W.

        Returns:
            N, float64.
        """
        left_out = self.solution.leave_one_out()
        total = torch.zeros(len(left_out), dtype=torch.float64, device=left_out.device)
        for cross in self._cross(images, "F-SI"):
            count = len(cross) // self.problem.classes
            total += count * mean_squared_response(self.solution, cross, left_out)
        return total / len(images)

    def predictive_covariance(self, images: Tensor) -> Tensor:
        """``J A⁻¹ Jᵀ = (K_tt − K_tX (K + μI)⁻¹ K_Xt)/μ`` of every image, exactly.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × C × C, float64.
        """
        old = self.rows.flatten(0, 1)
        parts = []
        for part in _bar(images.split(_BATCH), "covariance"):
            rows = self.problem.linearized.jacobian(part)
            own = torch.stack([_product(row, row) for row in rows])
            cross = _product(rows.flatten(0, 1), old)
            parts.append(predictive_covariance(self.solution, cross, own))
        return torch.cat(parts)

    def forget(self, index: Tensor) -> ExactOptimum:
        """The optimum without some samples: a block update, no pass through the network.

        Args:
            index: the samples to forget.

        Returns:
            A new optimum.
        """
        start = time.perf_counter()
        solution = remove(self.solution, index)
        stay = torch.ones(len(self.base), dtype=torch.bool, device=self.base.device)
        stay[index] = False
        problem = replace(
            self.problem, images=self.problem.images[stay], labels=self.problem.labels[stay]
        )
        rows = self.rows[stay]
        return _certified(problem, solution, self.base[stay], rows, 0.0, start, self.certificate)

    def extend(self, images: Tensor, labels: Tensor) -> ExactOptimum:
        """The optimum with further samples: their rows of J, and a block update.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum.
        """
        start = time.perf_counter()
        fresh = jacobian_rows(self.problem.linearized, images, "J of the new samples")
        base = in_batches(self.problem.linearized, images)
        flat, old = fresh.flatten(0, 1), self.rows.flatten(0, 1)
        target = self.problem.residual_target(base.double(), labels)
        solution = add(self.solution, _product(flat, old), _product(flat, flat), target)
        problem = replace(
            self.problem,
            images=torch.cat([self.problem.images, images]),
            labels=torch.cat([self.problem.labels, labels]),
        )
        passes = self.problem.classes / 2 * len(images) / len(problem.images)
        whole = torch.cat([self.base, base])
        rows = torch.cat([self.rows, fresh])
        return _certified(problem, solution, whole, rows, passes, start, self.certificate)

    def _cross(self, images: Tensor, what: str) -> Iterator[Tensor]:
        """``K_tX`` of a few images at a time.

        Yields:
            bC × NC, float64.
        """
        old = self.rows.flatten(0, 1)
        for part in _bar(images.split(_BATCH), what):
            yield _product(self.problem.linearized.jacobian(part).flatten(0, 1), old)


def jacobian_rows(linearized: Linearized, images: Tensor, what: str) -> Tensor:
    """J of every image, with a progress bar.

    Args:
        linearized: f0 and J.
        images: N × 3 × H × W.
        what: name of the bar.

    Returns:
        N × C × P.
    """
    C = linearized.outputs(images[:1]).shape[1]
    rows = images.new_empty(len(images), C, linearized.layout.size)
    parts = zip(rows.split(_BATCH), images.split(_BATCH), strict=True)
    count = -(-len(images) // _BATCH)
    for place, part in tqdm(parts, desc=what, total=count, disable=None, leave=False):
        place.copy_(linearized.jacobian(part))
    return rows


def _certified(
    problem: Problem,
    solution: DualRidge,
    base: Tensor,
    rows: Tensor,
    passes: float,
    start: float,
    fit: Certificate | None,
) -> ExactOptimum:
    """Return the optimum with its δ, and the residual of δ as the network will see it."""
    delta = _pull(rows, solution.coefficients)
    seen = delta.to(rows).double()
    right = _pull(rows, solution.target)
    gradient = _pull(rows, solution.target - _forward(rows, seen)) - solution.mu * seen
    residual = (gradient.norm() / right.norm()).item() if right.any() else 0.0
    certificate = Certificate(
        residual,
        problem.tolerance,
        residual <= problem.tolerance,
        passes,
        passes if fit is None else fit.passes_of_fit,
        seconds := time.perf_counter() - start,
        seconds if fit is None else fit.seconds_of_fit,
        "dual",
    )
    return ExactOptimum(problem, solution, base, delta, certificate, rows)


def _bar(parts: Sequence[Tensor], what: str) -> Iterator[Tensor]:
    yield from tqdm(parts, desc=what, disable=None, leave=False)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left rightᵀ``, accumulated in float64, a block of columns at a time."""
    total = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    for a, b in zip(left.split(_COLUMNS, 1), right.split(_COLUMNS, 1), strict=True):
        total += a.double() @ b.double().T
    return total


def _forward(rows: Tensor, delta: Tensor) -> Tensor:
    flat = rows.flatten(0, 1)
    parts = zip(flat.split(_COLUMNS, 1), delta.split(_COLUMNS), strict=True)
    total = torch.zeros(len(flat), dtype=torch.float64, device=rows.device)
    for a, d in parts:
        total += a.double() @ d
    return total.reshape(rows.shape[:2])


def _pull(rows: Tensor, cotangent: Tensor) -> Tensor:
    flat = rows.flatten(0, 1)
    return torch.cat([cotangent.reshape(-1) @ a.double() for a in flat.split(_COLUMNS, 1)])
