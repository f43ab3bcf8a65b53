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
from lqf.fitted.exact import MAX_BYTES, MAX_ROWS, ExactOptimum
from lqf.fitted.optimum import Certificate, Problem
from lqf.influence import LeaveOneOut, fsi_kfac, kfac_leave_one_out
from lqf.influence.forgetting import checked_index
from lqf.linear import NetworkJacobian
from lqf.solve import solve_pcg

log = logging.getLogger(__name__)


class IterativeOptimum:
    """A solution to a stated residual; scores are Kronecker approximations and say so.

    Args:
        problem: the problem.
        mu: μ.
        delta: δ, P.
        certificate: the evidence for it.
        factors: Kronecker factors of the Gauss–Newton matrix; None computes them when needed.
    """

    def __init__(
        self,
        problem: Problem,
        mu: float,
        delta: Tensor,
        certificate: Certificate,
        factors: KroneckerFactors | None = None,
    ) -> None:
        self.problem = problem
        self.mu = mu
        self.delta = delta
        self.certificate = certificate
        self._factors = factors

    @classmethod
    def fit(cls, problem: Problem, ridge: float | str) -> IterativeOptimum:
        """Choose μ, compute the curvature, and solve.

        Args:
            problem: the problem.
            ridge: μ; or ``loo`` or ``gcv``, which choose it exactly on a class-balanced part of
                the samples that is small enough.  μ weighs prior against noise in a sum over
                samples, so it does not grow with N.

        Returns:
            The optimum.
        """
        begin = time.perf_counter()
        mu = _ridge_of_part(problem, ridge) if isinstance(ridge, str) else float(ridge)
        return _solved(problem, mu, _curvature(problem), None, None, begin)

    @cached_property
    def jacobian(self) -> NetworkJacobian:
        """J of the training samples, by passes."""
        return NetworkJacobian(self.problem.linearized, self.problem.images)

    @cached_property
    def _preconditioner(self) -> Preconditioner:
        if self._factors is None:
            self._factors = _curvature(self.problem)
        return _preconditioner(self.problem, self.mu, self._factors)

    def leave_one_out(self) -> LeaveOneOut:
        """Approximate leave-one-out outputs, residuals and error; announced in the log.

        Returns:
            All of them.
        """
        self._announce("leave_one_out")
        residuals = self._residuals()
        left_out = kfac_leave_one_out(self.jacobian, self._preconditioner, residuals)
        outputs = self.jacobian.base.double() + self._target().double() - left_out
        wrong = (outputs.argmax(1) != self.problem.labels).double()
        return LeaveOneOut(left_out, outputs, 100.0 * wrong.mean().item(), exact=False)

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, approximately; a pass over the test images for each sample.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × N × C, float64.
        """
        self._announce("influence")
        test = NetworkJacobian(self.problem.linearized, images)
        residuals = self._residuals()
        effects = []
        for i in tqdm(range(len(residuals)), desc="influence", disable=None, leave=False):
            index = torch.tensor([i], device=residuals.device)
            direction = self._preconditioner.apply(self.jacobian.pull(residuals[index], index))
            effects.append(test.forward(direction).double() / len(residuals))
        return torch.stack(effects, 1)

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9), approximately.

        Args:
            images: M × 3 × H × W.

        Returns:
            N, float64.
        """
        self._announce("informativeness")
        validation = NetworkJacobian(self.problem.linearized, images)
        with tqdm(desc="F-SI", disable=None, leave=False) as bar:
            return fsi_kfac(
                self.jacobian,
                self._preconditioner,
                self._residuals(),
                validation,
                seed=self.problem.seed,
                progress=_Moves(bar),
            )

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
        return self._from_here(self.problem.images[stay], self.problem.labels[stay])

    def extend(self, images: Tensor, labels: Tensor) -> IterativeOptimum:
        """The optimum with further samples, from this one as the start.

        Args:
            images: n × 3 × H × W.
            labels: n.

        Returns:
            A new optimum, with the same μ, factors and tolerance.
        """
        return self._from_here(
            torch.cat([self.problem.images, images]), torch.cat([self.problem.labels, labels])
        )

    def _from_here(self, images: Tensor, labels: Tensor) -> IterativeOptimum:
        begin = time.perf_counter()
        factors = _curvature(self.problem) if self._factors is None else self._factors
        problem = replace(self.problem, images=images, labels=labels)
        passes = self.certificate.passes_of_fit
        return _solved(problem, self.mu, factors, self.delta, passes, begin)

    def _target(self) -> Tensor:
        return self.problem.residual_target(self.jacobian.base)

    def _residuals(self) -> Tensor:
        return self._target() - self.jacobian.forward(self.delta)

    def _announce(self, what: str) -> None:
        rows = len(self.problem.images) * self.problem.classes
        log.warning(
            "%s is a Kronecker approximation here: %d rows of J are more than the %d (or %d bytes) "
            "that are solved exactly",
            what,
            rows,
            MAX_ROWS,
            MAX_BYTES,
        )


def _curvature(problem: Problem) -> KroneckerFactors:
    with tqdm(desc="K-FAC", disable=None, leave=False) as bar:
        return kronecker_factors(
            problem.linearized.network,
            problem.images,
            problem.linearized.layout.names,
            probes=1,
            seed=problem.seed,
            progress=_Moves(bar),
        )


def _preconditioner(problem: Problem, mu: float, factors: KroneckerFactors) -> Preconditioner:
    return Preconditioner(factors, problem.linearized.layout, mu / len(problem.images))


def _solved(
    problem: Problem,
    mu: float,
    factors: KroneckerFactors,
    start: Tensor | None,
    passes_of_fit: float | None,
    begin: float,
) -> IterativeOptimum:
    jacobian = NetworkJacobian(problem.linearized, problem.images)
    with tqdm(desc="solve", disable=None, leave=False) as bar:
        solution = solve_pcg(
            jacobian,
            problem.residual_target(jacobian.base),
            mu / len(problem.images),
            preconditioner=_preconditioner(problem, mu, factors),
            tolerance=problem.tolerance,
            max_passes=problem.max_passes,
            start=start,
            progress=_Moves(bar),
        )
    certificate = Certificate(
        float("nan") if solution.residual is None else solution.residual,
        problem.tolerance,
        solution.converged,
        solution.passes,
        solution.passes if passes_of_fit is None else passes_of_fit,
        time.perf_counter() - begin,
        "pcg",
    )
    optimum = IterativeOptimum(problem, mu, solution.delta, certificate, factors)
    optimum.jacobian = jacobian
    return optimum


def _ridge_of_part(problem: Problem, ridge: str) -> float:
    """Return μ chosen exactly on as many samples, class by class in turn, as an exact fit holds."""
    size, itemsize = problem.linearized.layout.size, problem.images.element_size()
    rows = min(MAX_ROWS // 2, MAX_BYTES // (size * itemsize))
    count = min(max(2, rows // problem.classes), len(problem.images))
    generator = torch.Generator().manual_seed(problem.seed)
    order = torch.randperm(len(problem.labels), generator=generator)
    labels = problem.labels.cpu()[order]
    turn = torch.empty_like(labels)
    for label in labels.unique():
        turn[labels == label] = torch.arange(int((labels == label).sum()))
    chosen = order[turn.argsort(stable=True)[:count]].to(problem.images.device)
    part = replace(problem, images=problem.images[chosen], labels=problem.labels[chosen])
    mu = ExactOptimum.fit(part, ridge).mu
    log.info("ridge=%r: mu = %.3g, chosen on %d of %d samples", ridge, mu, count, len(labels))
    return mu


class _Moves:
    """A progress callback that moves a bar."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def __call__(self, done: int, total: int, note: str) -> None:
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
