"""Problems too large to hold J: preconditioned conjugate gradients, and a certificate."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from tqdm import tqdm

from lqf.budget import budget
from lqf.curvature import KroneckerFactors, kronecker_factors
from lqf.curvature.probes import ProbeCount
from lqf.fitted.compressed import Compressed
from lqf.fitted.exact import MAX_BYTES, MAX_ROWS
from lqf.fitted.optimum import Certificate, Moves, Problem
from lqf.influence import CompressedRidge, LeaveOneOut, residual_probes
from lqf.influence.forgetting import checked_index
from lqf.linear import NetworkJacobian, keeping
from lqf.solve import RidgeChoice, solve_dual_pcg
from lqf.solve.ridge_path import Criterion

log = logging.getLogger(__name__)

# Beyond this many classes a few combinations of the outputs precondition the dual, since the rows of
# all of them would cost more passes than they save.
MANY_CLASSES, COMBINED = 32, 8
# There F-SI takes so many combinations of the outputs of an image for all of them.
COMBINATIONS = 4
# Passes in which a solve can say anything.
_FEWEST = 3


class IterativeOptimum:
    """A solution to a stated residual; scores are Kronecker approximations and say so.

    Args:
        problem: the problem.
        mu: μ.
        delta: δ, P.
        certificate: the evidence for it.
        factors: Kronecker factors of the Gauss–Newton matrix; None computes them when needed.
        choice: how μ was chosen; None where it was given.
    """

    def __init__(
        self,
        problem: Problem,
        mu: float,
        delta: Tensor,
        certificate: Certificate,
        factors: KroneckerFactors | None = None,
        choice: RidgeChoice | None = None,
    ) -> None:
        self.problem = problem
        self.mu = mu
        self.delta = delta
        self.certificate = certificate
        self.choice = choice
        self.coefficients: Tensor | None = None
        self._factors = factors

    @classmethod
    def fit(cls, problem: Problem, ridge: float | str) -> IterativeOptimum:
        """Choose μ, compute the curvature, and solve.

        Args:
            problem: the problem.
            ridge: μ; or ``loo`` or ``gcv``, which choose it by compressed rows of J.

        Returns:
            The optimum.
        """
        begin = time.perf_counter()
        factors, jacobian = _curvature(problem), _jacobian(problem)
        target = problem.residual_target(jacobian.base)
        rows, choice = _solving_rows(problem, factors), None
        if isinstance(ridge, str):
            criterion: Criterion = "gcv" if ridge == "gcv" else "loo"
            choice = rows.choose(target, criterion)
            if choice.at_edge:
                log.warning("mu = %.3g lies at the edge of what was searched", choice.mu)
        mu = float(ridge) if choice is None else choice.mu
        # Combinations may not do for a small μ; the rows of all outputs follow if there is room.
        whole, half = problem.classes / 2 + _FEWEST, problem.max_passes // 2
        again = problem.classes > MANY_CLASSES and whole <= problem.max_passes - half
        optimum = _solved(
            problem,
            mu,
            factors,
            begin,
            jacobian,
            rows,
            None,
            spent=rows.passes,
            limit=half if again else problem.max_passes,
        )
        found = optimum.certificate
        if again and not found.met:
            rows = Compressed(problem, factors)
            start = optimum.coefficients if found.residual < 1 else None
            spent = found.passes + rows.passes
            optimum = _solved(problem, mu, factors, begin, jacobian, rows, start, spent=spent)
        optimum.choice = choice
        return optimum

    @cached_property
    def jacobian(self) -> NetworkJacobian:
        """J of the training samples, by passes."""
        return _jacobian(self.problem)

    @cached_property
    def solving_rows(self) -> Compressed:
        """What the dual is preconditioned with."""
        return _solving_rows(self.problem, self._held_factors())

    @cached_property
    def compressed(self) -> Compressed:
        """The rows of J in a few coordinates, for questions about samples."""
        if self.problem.classes <= MANY_CLASSES:
            return self.solving_rows
        return Compressed(self.problem, self._held_factors())

    @cached_property
    def _ridge(self) -> CompressedRidge:
        return CompressedRidge(self.compressed.rows, self.mu, self.compressed.missing)

    @cached_property
    def _few(self) -> tuple[Compressed, CompressedRidge, Tensor]:
        """The same for a few combinations of outputs of each sample, and its residual in them."""
        count = min(COMBINATIONS, self.problem.classes)
        frame, own = residual_probes(self._residuals, count, self.problem.seed)
        compressed = Compressed(self.problem, self._held_factors(), combinations=frame)
        return compressed, CompressedRidge(compressed.rows, self.mu, compressed.missing), own

    def _held_factors(self) -> KroneckerFactors:
        if self._factors is None:
            self._factors = _curvature(self.problem)
        return self._factors

    def leave_one_out(self) -> LeaveOneOut:
        """Leave-one-out outputs, residuals and error, with approximate leverage.

        Returns:
            All of them.
        """
        self._announce("leave_one_out")
        left_out = self._ridge.leave_one_out(self._residuals)
        outputs = self.jacobian.base.double() + self._target().double() - left_out
        wrong = (outputs.argmax(1) != self.problem.labels).double()
        return LeaveOneOut(left_out, outputs, 100.0 * wrong.mean().item(), exact=False)

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, approximately.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × N × C, float64.
        """
        self._announce("influence")
        rows = self.compressed.rows_of(images)
        return self._ridge.influence(rows, self._residuals)

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9), approximately.

        Args:
            images: M × 3 × H × W.

        Returns:
            N, float64.
        """
        if self.problem.classes <= MANY_CLASSES:
            self._announce("informativeness")
            return self._ridge.informativeness(self.compressed.rows_of(images), self._residuals)
        few, ridge, own = self._few
        self._announce("informativeness", few)
        many = self.problem.classes > COMBINATIONS
        probes: ProbeCount = COMBINATIONS if many else "all"
        return ridge.informativeness(few.rows_of(images, probes), own)

    def predictive_covariance(self, images: Tensor) -> Tensor:
        """``J A⁻¹ Jᵀ`` of every image, approximately.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × C × C, float64.
        """
        self._announce("predictive_covariance")
        # Dropped coordinates would be missing in the variance, sampled ones are not on the mean.
        sampled = self._sampled
        return CompressedRidge(sampled.rows, self.mu).covariance(sampled.rows_of(images))

    @cached_property
    def _sampled(self) -> Compressed:
        return Compressed(self.problem, self._held_factors(), "sampled")

    def forget(self, index: Tensor) -> IterativeOptimum:
        """The optimum without some samples, from this one as the start.

        Args:
            index: the samples to forget.

        Returns:
            A new optimum, with the same μ, factors and tolerance.
        """
        begin = time.perf_counter()
        out = checked_index(index, len(self.problem.images))
        stay = torch.ones(len(self.problem.images), dtype=torch.bool, device=out.device)
        stay[out] = False
        old = self.problem
        problem = replace(old, images=old.images[stay], labels=old.labels[stay])
        rows, start = self.solving_rows.rows[stay], self._start()[stay]
        return self._from_here(problem, self.jacobian.base[stay], rows, start, begin)

    def extend(self, images: Tensor, labels: Tensor) -> IterativeOptimum:
        """The optimum with further samples, from this one as the start.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum, with the same μ, factors and tolerance.
        """
        begin, old = time.perf_counter(), self.problem
        fresh = NetworkJacobian(old.linearized, images)
        problem = replace(
            old, images=torch.cat([old.images, images]), labels=torch.cat([old.labels, labels])
        )
        whole = torch.cat([self.jacobian.base, fresh.base])
        known = self.solving_rows
        rows = torch.cat([known.rows, known.rows_of(images)])
        spent = known.passes * len(images) / len(problem.images)
        start = torch.cat([self._start(), torch.zeros_like(fresh.base)])
        return self._from_here(problem, whole, rows, start, begin, spent)

    def _start(self) -> Tensor:
        """Dual coefficients of this optimum, N × C: ``r = μa``."""
        if self.coefficients is None:
            self.coefficients = self._residuals / self.mu
        return self.coefficients

    def _from_here(
        self,
        problem: Problem,
        base: Tensor,
        rows: Tensor,
        start: Tensor,
        begin: float,
        spent: float = 0.0,
    ) -> IterativeOptimum:
        return _solved(
            problem,
            self.mu,
            self._held_factors(),
            begin,
            NetworkJacobian(problem.linearized, problem.images, base=base),
            self.solving_rows.of(problem, rows),
            start,
            spent=spent,
            fit=self.certificate,
        )

    def _target(self) -> Tensor:
        return self.problem.residual_target(self.jacobian.base)

    @cached_property
    def _residuals(self) -> Tensor:
        return self._target() - self.jacobian.forward(self.delta)

    def _announce(self, what: str, compressed: Compressed | None = None) -> None:
        rows, size = (
            len(self.problem.images) * self.problem.classes,
            self.problem.linearized.layout.size,
        )
        log.warning(
            "%s is an approximation here, from %d coordinates of J: %d rows with %d entries are "
            "more than the %d rows in %d bytes that are solved exactly",
            what,
            (compressed or self.compressed).size,
            rows,
            size,
            MAX_ROWS,
            MAX_BYTES,
        )


def _jacobian(problem: Problem) -> NetworkJacobian:
    return NetworkJacobian(problem.linearized, problem.images)


def _curvature(problem: Problem) -> KroneckerFactors:
    with tqdm(desc="K-FAC", disable=None, leave=False) as bar:
        return kronecker_factors(
            problem.linearized.network,
            problem.images,
            problem.linearized.layout.names,
            probes=1,
            seed=problem.seed,
            progress=Moves(bar),
        )


def _solving_rows(problem: Problem, factors: KroneckerFactors) -> Compressed:
    return Compressed(
        problem, factors, combined=None if problem.classes <= MANY_CLASSES else COMBINED
    )


def _solved(
    problem: Problem,
    mu: float,
    factors: KroneckerFactors,
    begin: float,
    jacobian: NetworkJacobian,
    rows: Compressed,
    start: Tensor | None,
    *,
    spent: float = 0.0,
    limit: int | None = None,
    fit: Certificate | None = None,
) -> IterativeOptimum:
    """Return the optimum at μ; ``spent`` passes were taken before, ``fit`` is where it comes from.

    The NC dual coefficients are solved for, from coefficients as the start: what their δ = Jᵀa has
    outside the row space of J is nothing, whatever the residual.
    """
    target, decay = problem.residual_target(jacobian.base), mu / len(problem.images)
    kept = keeping(jacobian, budget(target.device))
    with tqdm(desc="solve", disable=None, leave=False) as bar, kept:
        solution = solve_dual_pcg(
            jacobian,
            target,
            decay,
            preconditioner=rows.preconditioner(mu),
            tolerance=problem.tolerance,
            max_passes=max(_FEWEST, int((limit or problem.max_passes) - spent)),
            start=start,
            progress=Moves(bar),
        )
    passes, seconds = spent + solution.passes, time.perf_counter() - begin
    certificate = Certificate(
        float("nan") if solution.residual is None else solution.residual,
        problem.tolerance,
        solution.converged,
        passes,
        passes if fit is None else fit.passes_of_fit,
        seconds,
        seconds if fit is None else fit.seconds_of_fit,
        "dual pcg",
        spent,
    )
    optimum = IterativeOptimum(problem, mu, solution.delta, certificate, factors)
    optimum.jacobian, optimum.coefficients = jacobian, solution.coefficients
    optimum.solving_rows = rows
    return optimum
