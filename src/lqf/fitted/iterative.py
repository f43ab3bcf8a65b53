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
from lqf.curvature import KroneckerFactors, Preconditioner, kronecker_factors
from lqf.curvature.probes import ProbeCount
from lqf.fitted.compressed import Compressed
from lqf.fitted.exact import MAX_BYTES, MAX_ROWS
from lqf.fitted.optimum import Certificate, Moves, Problem
from lqf.fitted.ridge import choose_by_gcv
from lqf.influence import CompressedRidge, LeaveOneOut, residual_probes
from lqf.influence.forgetting import checked_index
from lqf.linear import NetworkJacobian, keeping
from lqf.solve import KernelPreconditioner, RidgeChoice, solve_dual_pcg, solve_pcg
from lqf.solve.ridge_path import Criterion

log = logging.getLogger(__name__)

# Beyond this many classes the compressed rows cost more passes than the search by subspaces.
MANY_CLASSES = 32
# There F-SI takes so many combinations of the outputs of an image for all of them.
COMBINATIONS = 4


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
            ridge: μ; or ``loo`` or ``gcv``, which choose it by compressed rows of J where these
                cost no more than the search by subspaces (`lqf.fitted.ridge`), which is always
                ``gcv``.

        Returns:
            The optimum.
        """
        begin = time.perf_counter()
        factors, jacobian = _curvature(problem), _jacobian(problem)
        target = problem.residual_target(jacobian.base)
        few = problem.classes <= MANY_CLASSES
        compressed = Compressed(problem, factors) if few else None
        spent = problem.classes / 2 if few else 0.0
        choice, start = None, None
        if isinstance(ridge, str) and compressed is not None:
            criterion: Criterion = "gcv" if ridge == "gcv" else "loo"
            choice = compressed.choose(target, criterion)
            if choice.at_edge:
                log.warning("mu = %.3g lies at the edge of what was searched", choice.mu)
        elif isinstance(ridge, str):
            with tqdm(desc="ridge", disable=None, leave=False) as bar:
                found = choose_by_gcv(
                    jacobian,
                    target,
                    lambda decay: Preconditioner(factors, problem.linearized.layout, decay),
                    seed=problem.seed,
                    progress=Moves(bar),
                )
            choice, start, spent = found.choice, found.delta, found.passes
        mu = float(ridge) if choice is None else choice.mu
        optimum = _solved(problem, mu, factors, begin, jacobian, compressed, start, spent=spent)
        optimum.choice = choice
        return optimum

    @cached_property
    def jacobian(self) -> NetworkJacobian:
        """J of the training samples, by passes."""
        return _jacobian(self.problem)

    @cached_property
    def compressed(self) -> Compressed:
        """The rows of J in a few coordinates, for questions about samples."""
        return Compressed(self.problem, self._held_factors())

    @cached_property
    def _ridge(self) -> CompressedRidge:
        return CompressedRidge(self.compressed.rows, self.mu)

    @cached_property
    def _few(self) -> tuple[Compressed, CompressedRidge, Tensor]:
        """The same for a few combinations of outputs of each sample, and its residual in them."""
        count = min(COMBINATIONS, self.problem.classes)
        frame, own = residual_probes(self._residuals, count, self.problem.seed)
        compressed = Compressed(self.problem, self._held_factors(), frame)
        return compressed, CompressedRidge(compressed.rows, self.mu), own

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
        if self._in_dual:
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
        return self._ridge.covariance(self.compressed.rows_of(images))

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
        rows = self.compressed.rows[stay] if self._in_dual else None
        start = self._start()[stay]
        return self._from_here(problem, self.jacobian.base[stay], rows, start, begin)

    def extend(self, images: Tensor, labels: Tensor) -> IterativeOptimum:
        """The optimum with further samples, from this one as the start.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum, with the same μ, factors and tolerance.
        """
        begin, old, spent = time.perf_counter(), self.problem, 0.0
        fresh = NetworkJacobian(old.linearized, images)
        problem = replace(
            old, images=torch.cat([old.images, images]), labels=torch.cat([old.labels, labels])
        )
        whole, rows, start = torch.cat([self.jacobian.base, fresh.base]), None, self._start()
        if self._in_dual:
            rows = torch.cat([self.compressed.rows, self.compressed.rows_of(images)])
            spent = old.classes / 2 * len(images) / len(problem.images)
        start = torch.cat([start, torch.zeros_like(fresh.base)])
        return self._from_here(problem, whole, rows, start, begin, spent)

    @property
    def _in_dual(self) -> bool:
        return self.problem.classes <= MANY_CLASSES

    def _start(self) -> Tensor:
        """Dual coefficients of this optimum, N × C: ``r = μa``."""
        if self.coefficients is None:
            self.coefficients = self._residuals / self.mu
        return self.coefficients

    def _from_here(
        self,
        problem: Problem,
        base: Tensor,
        rows: Tensor | None,
        start: Tensor,
        begin: float,
        spent: float = 0.0,
    ) -> IterativeOptimum:
        factors = self._held_factors()
        jacobian = NetworkJacobian(problem.linearized, problem.images, base=base)
        compressed = None if rows is None else self.compressed.of(problem, rows)
        warm = self.delta if compressed is None else start
        return _solved(
            problem,
            self.mu,
            factors,
            begin,
            jacobian,
            compressed,
            warm,
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


def _solved(
    problem: Problem,
    mu: float,
    factors: KroneckerFactors,
    begin: float,
    jacobian: NetworkJacobian,
    compressed: Compressed | None,
    start: Tensor | None,
    *,
    spent: float = 0.0,
    fit: Certificate | None = None,
) -> IterativeOptimum:
    """Return the optimum at μ; ``spent`` passes were taken before, ``fit`` is where it comes from.

    With compressed rows the NC dual coefficients are solved for, from coefficients as the start;
    without them δ, from a δ.
    """
    target, decay = problem.residual_target(jacobian.base), mu / len(problem.images)
    passes_left = max(3, int(problem.max_passes - spent))
    kept = keeping(jacobian, budget(target.device))
    with tqdm(desc="solve", disable=None, leave=False) as bar, kept:
        if compressed is not None:
            solution = solve_dual_pcg(
                jacobian,
                target,
                decay,
                preconditioner=KernelPreconditioner(compressed.rows, mu),
                tolerance=problem.tolerance,
                max_passes=passes_left,
                start=start,
                progress=Moves(bar),
            )
        else:
            solution = solve_pcg(
                jacobian,
                target,
                decay,
                preconditioner=Preconditioner(factors, problem.linearized.layout, decay),
                tolerance=problem.tolerance,
                max_passes=passes_left,
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
        "pcg" if compressed is None else "dual pcg",
        spent,
    )
    optimum = IterativeOptimum(problem, mu, solution.delta, certificate, factors)
    optimum.jacobian, optimum.coefficients = jacobian, solution.coefficients
    if compressed is not None:
        optimum.compressed = compressed
    return optimum
