"""Problems whose kernel is formed: solved directly, and every question answered exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lqf.curvature import Metric, SampleGradients
from lqf.optimum.base import ASKED, Optimum
from lqf.optimum.choice import Choice
from lqf.optimum.problem import Effort, LeftOut, Problem
from lqf.ridge import DenseRidge, KernelMaker


@dataclass(eq=False)
class SmallOptimum(Optimum):
    """The optimum of a problem whose kernel is held.

    Attributes:
        dual: the problem under its kernel.
    """

    dual: DenseRidge

    exact = True
    solver = "dense"

    @classmethod
    def solved(
        cls,
        problem: Problem,
        samples: SampleGradients,
        metric: Metric,
        ridge: DenseRidge,
        choice: Choice | None,
        effort: Effort,
    ) -> SmallOptimum:
        """The optimum of a ridge in its dual; arguments as in `Optimum`."""
        known = problem, samples, metric, ridge.coefficients, ridge.mu, choice, effort
        return cls.certified(*known, ridge)

    @property
    def ridge(self) -> DenseRidge:
        """The problem under its kernel."""
        return self.dual

    @cached_property
    def makers(self) -> list[KernelMaker]:
        """The maker of its kernel."""
        C = self.problem.target.shape[1]
        first = torch.eye(C, 1) if self.dual.width < C else None
        return [KernelMaker(self.samples, self.metric, first)]

    def leave_one_out(self, groups: list[Tensor] | None = None) -> LeftOut:
        """Every sample under the optimum without it, or without its group."""
        return LeftOut(self.dual.leave_one_out(groups), self.exact, (1.0, 0.0))

    def covariance(self, images: Tensor) -> Tensor:
        """``J (JᵀΩJ + μM)⁻¹ Jᵀ`` of every image, M × C × C, float64."""
        maker = self.makers[0]
        parts = [
            self.dual.covariance(self.kernel(part), maker.own(part)) for part in images.split(ASKED)
        ]
        C = self.problem.target.shape[1]
        found = torch.cat(parts)
        return found if self.dual.width == C else found * torch.eye(C).to(found)

    def forget(self, kept: Tensor, gone: Tensor) -> SmallOptimum:
        """The optimum of the samples in ``kept``, without those in ``gone``, at the same μ and M."""
        effort = Effort(fit=self.certificate)
        problem, ridge = self.problem.select(kept), self.dual.remove(gone)
        return self.solved(problem, self.samples, self.metric, ridge, None, effort)

    def relabel(self, target: Tensor) -> SmallOptimum:
        """The optimum for other targets R, N × C, at the same μ and M; the kernel is that of before."""
        effort, old = Effort(fit=self.certificate), self.dual
        ridge = DenseRidge(old.gram, target, old.mu, old.noise, factor=old.factor)
        problem = replace(self.problem, target=target, resume=None)
        return self.solved(problem, self.samples, self.metric, ridge, None, effort)

    def extend(self, images: Tensor, target: Tensor, noise: Tensor | None) -> SmallOptimum:
        """The optimum with further samples at the same μ and M."""
        effort = Effort(target.shape[1] / 2, fit=self.certificate)
        extra = torch.ones_like(target[:, 0]) if noise is None else noise
        ridge = self.dual.add(self.kernel(images), self.makers[0].gram(images), target, extra)
        problem = self.problem.joined(images, target, noise)
        return self.solved(problem, self.samples, self.metric, ridge, None, effort)
