"""Problems too large to hold J: conjugate gradients with Kronecker factors, and a certificate."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from tqdm import tqdm

from lqf.curvature import KroneckerFactors, Preconditioner, kronecker_factors
from lqf.fitted.compressed import Compressed
from lqf.fitted.exact import MAX_BYTES, MAX_ROWS
from lqf.fitted.optimum import Certificate, Moves, Problem
from lqf.fitted.ridge import choose_by_gcv
from lqf.influence import CompressedRidge, LeaveOneOut
from lqf.influence.forgetting import checked_index
from lqf.linear import NetworkJacobian
from lqf.solve import RidgeChoice, solve_pcg
from lqf.solve.ridge_path import Criterion

log = logging.getLogger(__name__)

# Beyond this many classes the compressed rows cost more passes than the search by subspaces.
MANY_CLASSES = 32


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
        if not isinstance(ridge, str):
            return _solved(problem, float(ridge), factors, begin, jacobian)
        target = problem.residual_target(jacobian.base)
        compressed, start = None, None
        if problem.classes <= MANY_CLASSES:
            compressed = Compressed(problem, factors)
            criterion: Criterion = "gcv" if ridge == "gcv" else "loo"
            choice, spent = compressed.choose(target, criterion), problem.classes / 2
        else:
            with tqdm(desc="ridge", disable=None, leave=False) as bar:
                found = choose_by_gcv(
                    jacobian,
                    target,
                    lambda decay: Preconditioner(factors, problem.linearized.layout, decay),
                    seed=problem.seed,
                    progress=Moves(bar),
                )
            choice, start, spent = found.choice, found.delta, found.passes
        optimum = _solved(problem, choice.mu, factors, begin, jacobian, start, spent=spent)
        optimum.choice = choice
        if compressed is not None:
            optimum.compressed = compressed
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
        self._announce("informativeness")
        return self._ridge.informativeness(self.compressed.rows_of(images), self._residuals)

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
        out = checked_index(index, len(self.problem.images))
        stay = torch.ones(len(self.problem.images), dtype=torch.bool, device=out.device)
        stay[out] = False
        old = self.problem
        problem = replace(old, images=old.images[stay], labels=old.labels[stay])
        return self._from_here(problem, self.jacobian.base[stay])

    def extend(self, images: Tensor, labels: Tensor) -> IterativeOptimum:
        """The optimum with further samples, from this one as the start.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum, with the same μ, factors and tolerance.
        """
        old = self.problem
        fresh = NetworkJacobian(old.linearized, images)
        problem = replace(
            old, images=torch.cat([old.images, images]), labels=torch.cat([old.labels, labels])
        )
        return self._from_here(problem, torch.cat([self.jacobian.base, fresh.base]))

    def _from_here(self, problem: Problem, base: Tensor) -> IterativeOptimum:
        begin = time.perf_counter()
        factors = self._held_factors()
        jacobian = NetworkJacobian(problem.linearized, problem.images, base=base)
        return _solved(problem, self.mu, factors, begin, jacobian, self.delta, fit=self.certificate)

    def _target(self) -> Tensor:
        return self.problem.residual_target(self.jacobian.base)

    @cached_property
    def _residuals(self) -> Tensor:
        return self._target() - self.jacobian.forward(self.delta)

    def _announce(self, what: str) -> None:
        rows, size = (
            len(self.problem.images) * self.problem.classes,
            self.problem.linearized.layout.size,
        )
        log.warning(
            "%s is an approximation here, from %d coordinates of J: %d rows with %d entries are "
            "more than the %d rows in %d bytes that are solved exactly",
            what,
            self.compressed.size,
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


def _preconditioner(problem: Problem, mu: float, factors: KroneckerFactors) -> Preconditioner:
    return Preconditioner(factors, problem.linearized.layout, mu / len(problem.images))


def _solved(
    problem: Problem,
    mu: float,
    factors: KroneckerFactors,
    begin: float,
    jacobian: NetworkJacobian,
    start: Tensor | None = None,
    *,
    spent: float = 0.0,
    fit: Certificate | None = None,
) -> IterativeOptimum:
    """Return the optimum at μ; ``spent`` passes were taken before, ``fit`` is where it comes from."""
    with tqdm(desc="solve", disable=None, leave=False) as bar:
        solution = solve_pcg(
            jacobian,
            problem.residual_target(jacobian.base),
            mu / len(problem.images),
            preconditioner=_preconditioner(problem, mu, factors),
            tolerance=problem.tolerance,
            max_passes=max(3, int(problem.max_passes - spent)),
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
        "pcg",
        spent,
    )
    optimum = IterativeOptimum(problem, mu, solution.delta, certificate, factors)
    optimum.jacobian = jacobian
    return optimum
