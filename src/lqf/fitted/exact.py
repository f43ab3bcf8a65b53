"""Problems small enough to hold J: solved in the dual, and every question answered exactly."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from lqf.fitted.optimum import Certificate, Moves, Problem
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
from lqf.linear import RowPlan, SampleRows
from lqf.solve import RidgeChoice, RidgePath
from lqf.solve.ridge_path import Criterion

log = logging.getLogger(__name__)

_BATCH = 32
MAX_ROWS = 4096
MAX_BYTES = 2**30
# Multiplications in the Gram matrix: those of the largest J of so many bytes and rows.
MAX_WORK = MAX_ROWS * MAX_BYTES // 8


def fits(plan: RowPlan, images: Tensor, samples: int) -> bool:
    """Whether J and the Gram matrix (NC × NC) are small enough to be computed and held.

    Args:
        plan: how J is held.
        images: images, for their precision.
        samples: N.

    Returns:
        True if both are.
    """
    size, work = samples * plan.numbers * images.element_size(), samples**2 * plan.work // 2
    return samples * plan.classes <= MAX_ROWS and size <= MAX_BYTES and work <= MAX_WORK


class ExactOptimum:
    """The dual solution of a small problem.

    Args:
        problem: the problem.
        solution: its dual solution.
        base: f0 of the training samples, N × C.
        delta: δ, P, float64.
        certificate: the evidence for it.
        rows: J; None computes it when it is needed.
        choice: how μ was chosen; None where it was given.
    """

    def __init__(
        self,
        problem: Problem,
        solution: DualRidge,
        base: Tensor,
        delta: Tensor,
        certificate: Certificate,
        rows: SampleRows | None = None,
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
    def fit(cls, problem: Problem, ridge: float | str, plan: RowPlan) -> ExactOptimum:
        """Compute J, choose μ, and solve.

        Args:
            problem: the problem.
            ridge: μ, or ``loo`` or ``gcv`` to choose it by.
            plan: how J is held.

        Returns:
            The optimum.
        """
        start = time.perf_counter()
        rows = rows_of(plan, problem.images, "J")
        target = problem.residual_target(rows.base.double())
        gram, choice = rows.product(), None
        if isinstance(ridge, str):
            criterion: Criterion = "gcv" if ridge == "gcv" else "loo"
            choice = RidgePath(gram, target).choose(criterion=criterion)
        mu = float(ridge) if choice is None else choice.mu
        if choice is not None and choice.at_edge:
            log.warning("mu = %.3g lies at the edge of what was searched", mu)
        solution = DualRidge(gram, target, mu)
        optimum = _certified(problem, solution, rows, problem.classes / 2, start, None)
        optimum.choice = choice
        return optimum

    @property
    def rows(self) -> SampleRows:
        """J of the training samples."""
        if self._rows is None:
            plan = RowPlan(self.problem.linearized, self.problem.images)
            self._rows = rows_of(plan, self.problem.images, "J")
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
        old = self.rows
        parts = []
        for part in _bar(images.split(_BATCH), "covariance"):
            rows = old.plan.rows(part)
            cross = rows.product(old)
            parts.append(predictive_covariance(self.solution, cross, rows.own_products()))
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
        return _certified(problem, solution, self.rows[stay], 0.0, start, self.certificate)

    def extend(self, images: Tensor, labels: Tensor) -> ExactOptimum:
        """The optimum with further samples: their rows of J, and a block update.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum.
        """
        start = time.perf_counter()
        fresh = rows_of(self.rows.plan, images, "J of the new samples")
        target = self.problem.residual_target(fresh.base.double(), labels)
        solution = add(self.solution, fresh.product(self.rows), fresh.product(), target)
        problem = replace(
            self.problem,
            images=torch.cat([self.problem.images, images]),
            labels=torch.cat([self.problem.labels, labels]),
        )
        passes = self.problem.classes / 2 * len(images) / len(problem.images)
        rows = self.rows.joined(fresh)
        return _certified(problem, solution, rows, passes, start, self.certificate)

    def _cross(self, images: Tensor, what: str) -> Iterator[Tensor]:
        """``K_tX`` of a few images at a time.

        Yields:
            bC × NC, float64.
        """
        for part in _bar(images.split(_BATCH), what):
            yield self.rows.plan.rows(part).product(self.rows)


def rows_of(plan: RowPlan, images: Tensor, what: str) -> SampleRows:
    """J of every image, with a progress bar.

    Args:
        plan: how J is held.
        images: N × 3 × H × W.
        what: name of the bar.

    Returns:
        J.
    """
    with tqdm(desc=what, disable=None, leave=False) as bar:
        return plan.rows(images, _BATCH, Moves(bar))


def _certified(
    problem: Problem,
    solution: DualRidge,
    rows: SampleRows,
    passes: float,
    start: float,
    fit: Certificate | None,
) -> ExactOptimum:
    """Return the optimum with its δ, and the residual of δ as the network will see it."""
    delta = rows.pull(solution.coefficients)
    seen = delta.to(rows.base).double()
    right = solution.target.reshape(-1)
    size = (right @ solution.gram @ right).clamp(min=0).sqrt()  # ‖JᵀR‖
    gradient = rows.pull(solution.target - rows.forward(seen)) - solution.mu * seen
    residual = (gradient.norm() / size).item() if size > 0 else 0.0
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
    return ExactOptimum(problem, solution, rows.base, delta, certificate, rows)


def _bar(parts: Sequence[Tensor], what: str) -> Iterator[Tensor]:
    yield from tqdm(parts, desc=what, disable=None, leave=False)
