"""Problems whose kernel is formed: solved directly, and every question answered exactly."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from lqf.curvature import Curvature, Metric, SampleGradients
from lqf.optimum.choice import Choice
from lqf.optimum.evidence import certified
from lqf.optimum.problem import Certificate, LeftOut, Problem
from lqf.ridge import DenseRidge, KernelMaker

# Images whose rows of J are made at once when they are asked about.
_ASKED = 16


class SmallOptimum:
    """The optimum of a problem whose kernel is held.

    Args:
        problem: the problem.
        samples: how gradients of single samples are found.
        metric: M.
        ridge: the dual solution.
        delta: δ, P.
        certificate: the evidence for it.
        choice: how the constants were chosen; None where they were given.
    """

    exact = True

    def __init__(
        self,
        problem: Problem,
        samples: SampleGradients,
        metric: Metric,
        ridge: DenseRidge,
        delta: Tensor,
        certificate: Certificate,
        choice: Choice | None,
    ) -> None:
        self.problem, self.samples, self.metric = problem, samples, metric
        self.ridge, self.delta = ridge, delta
        self.certificate, self.choice = certificate, choice
        shared = ridge.width < ridge.target.shape[1]
        first = torch.eye(ridge.target.shape[1], 1) if shared else None
        self._maker = KernelMaker(samples, metric, first)

    @classmethod
    def solved(
        cls,
        problem: Problem,
        samples: SampleGradients,
        metric: Metric,
        ridge: DenseRidge,
        passes: float,
        begin: float,
        choice: Choice | None,
        fit: Certificate | None = None,
    ) -> SmallOptimum:
        """The optimum with its δ and certificate; arguments as in the class and `certified`."""
        delta, certificate = certified(
            problem, metric, ridge.coefficients, ridge.mu, passes, begin, "dense", fit
        )
        return cls(problem, samples, metric, ridge, delta, certificate, choice)

    @property
    def mu(self) -> float:
        """μ."""
        return self.ridge.mu

    @property
    def coefficients(self) -> Tensor:
        """a, N × C."""
        return self.ridge.coefficients

    @property
    def curvature(self) -> Curvature | None:
        """F, where the metric has one."""
        return self.metric.curvature

    def leave_one_out(self, groups: list[Tensor] | None = None) -> LeftOut:
        """Every sample under the optimum without it, or without its group."""
        return LeftOut(self.ridge.leave_one_out(groups), exact=True)

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, M × N × C, float64."""
        return torch.cat([self.ridge.influence(cross) for cross in self._cross(images)])

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9), N, float64."""
        total = torch.zeros(len(self.ridge), dtype=torch.float64, device=self.delta.device)
        for cross in self._cross(images):
            count = len(cross) // self.ridge.width
            total += count * self.ridge.informativeness(cross)
        return total / len(images)

    def covariance(self, images: Tensor) -> Tensor:
        """``J (JᵀΩJ + μM)⁻¹ Jᵀ`` of every image, M × C × C, float64."""
        parts = []
        for part in images.split(_ASKED):
            cross = self.kernel(part)
            own = self._maker.own(part)
            parts.append(self.ridge.covariance(cross, own))
        C = self.ridge.target.shape[1]
        return torch.cat(parts) * torch.eye(C).to(own) if self.ridge.width < C else torch.cat(parts)

    def kernel(self, images: Tensor) -> Tensor:
        """K between images and the training samples, MC × NC, float64."""
        return self._maker.cross(images, self.problem.images)

    def _cross(self, images: Tensor) -> list[Tensor]:
        return [self.kernel(part) for part in images.split(_ASKED)]

    def forget(self, kept: Tensor, gone: Tensor) -> SmallOptimum:
        """The optimum of the samples in ``kept``, without those in ``gone``, at the same μ and M."""
        begin = time.perf_counter()
        problem = self.problem.select(kept)
        return self.solved(
            problem,
            self.samples,
            self.metric,
            self.ridge.remove(gone),
            0.0,
            begin,
            None,
            self.certificate,
        )

    def relabel(self, target: Tensor) -> SmallOptimum:
        """The optimum for other targets R, N × C, at the same μ and M; the kernel is that of before."""
        begin = time.perf_counter()
        old = self.ridge
        ridge = DenseRidge(old.gram, target, old.mu, old.noise, factor=old.factor)
        problem = replace(self.problem, target=target, resume=None)
        return self.solved(
            problem, self.samples, self.metric, ridge, 0.0, begin, None, self.certificate
        )

    def extend(self, images: Tensor, target: Tensor, noise: Tensor | None) -> SmallOptimum:
        """The optimum with further samples at the same μ and M."""
        begin = time.perf_counter()
        cross = self.kernel(images)
        own = self._maker.gram(images)
        extra = torch.ones_like(target[:, 0]) if noise is None else noise
        ridge = self.ridge.add(cross, own, target, extra)
        problem = self.problem.joined(images, target, noise)
        passes = target.shape[1] / 2
        return self.solved(
            problem, self.samples, self.metric, ridge, passes, begin, None, self.certificate
        )
