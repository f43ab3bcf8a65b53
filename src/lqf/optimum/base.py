"""A solution, the evidence for it, and what can be asked of it.

Both kinds of optimum answer from a kernel in the dual: the exact one from its own, the approximate one from
one that the outputs share on average.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lqf.curvature import Curvature, Metric, SampleGradients
from lqf.optimum.choice import Choice
from lqf.optimum.problem import Certificate, Effort, LeftOut, Problem
from lqf.ridge import DenseRidge, KernelMaker

#: Images whose rows of J are made at once when they are asked about.
ASKED = 16


@dataclass(eq=False)
class Optimum(ABC):
    """δ of a problem, and answers about its samples at the same μ and M.

    Attributes:
        problem: the problem.
        samples: how gradients of single samples are found.
        metric: M.
        coefficients: a, N × C, with ``δ = M⁻¹Jᵀa``.
        mu: μ.
        choice: how the constants were chosen; None where they were given.
        delta: δ, P.
        certificate: the evidence for it.
        exact: whether answers are exact to rounding; otherwise they are estimates.
        solver: what finds a.
    """

    problem: Problem
    samples: SampleGradients
    metric: Metric
    coefficients: Tensor
    mu: float
    choice: Choice | None
    delta: Tensor
    certificate: Certificate

    exact: ClassVar[bool]
    solver: ClassVar[str]

    @classmethod
    def certified(
        cls,
        problem: Problem,
        samples: SampleGradients,
        metric: Metric,
        coefficients: Tensor,
        mu: float,
        choice: Choice | None,
        effort: Effort,
        *more: Any,
    ) -> Self:
        """The optimum of dual coefficients, with δ and the evidence for it found through the network: one pass."""
        target, jacobian = problem.target, problem.jacobian
        delta = metric.solve(jacobian.pull(coefficients.to(target)))
        change = jacobian.forward(delta).double()
        noise = 1.0 if problem.noise is None else problem.noise.double()[:, None]
        gap = target.double() - change - mu * noise * coefficients.double()
        size, distance = float(target.double().norm()), float(gap.norm())
        residual = distance / size if size > 0 else 0.0
        seconds, passes = time.perf_counter() - effort.begin, effort.passes + 1
        fit = effort.fit
        certificate = Certificate(
            residual,
            distance,
            problem.tolerance,
            residual <= problem.tolerance,
            passes,
            passes if fit is None else fit.passes_of_fit,
            seconds,
            seconds if fit is None else fit.seconds_of_fit,
            cls.solver,
        )
        known = problem, samples, metric, coefficients, mu, choice, delta, certificate
        return cls(*known, *more)

    @property
    def curvature(self) -> Curvature | None:
        """F, where the metric has one."""
        return self.metric.curvature

    @property
    @abstractmethod
    def makers(self) -> list[KernelMaker]:
        """Makers of the kernels whose mean answers."""

    @property
    @abstractmethod
    def ridge(self) -> DenseRidge:
        """The problem under the kernel that answers."""

    def kernel(self, images: Tensor) -> Tensor:
        """K between images and the training samples, MC × NC (M × N where outputs share it), float64."""
        return mean(self.makers, lambda maker: maker.cross(images, self.problem.images))

    @abstractmethod
    def leave_one_out(self, groups: list[Tensor] | None = None) -> LeftOut:
        """Every sample under the optimum without it, or without its group."""

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, M × N × C, float64."""
        change = self.leave_one_out().residuals
        parts = images.split(ASKED)
        return torch.cat([self.ridge.respond(self.kernel(part), change) for part in parts])

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9), N, float64."""
        change = self.leave_one_out().residuals
        parts = images.split(ASKED)
        total = torch.zeros_like(change[:, 0])
        for part in parts:
            total += len(part) * self.ridge.mean_square(self.kernel(part), change)
        return total / len(images)

    @abstractmethod
    def covariance(self, images: Tensor) -> Tensor:
        """``J (JᵀΩJ + μM)⁻¹ Jᵀ`` of every image, M × C × C, float64."""

    @abstractmethod
    def forget(self, kept: Tensor, gone: Tensor) -> Self:
        """The optimum of the samples in ``kept``, without those in ``gone``, at the same μ and M."""

    @abstractmethod
    def relabel(self, target: Tensor) -> Self:
        """The optimum for other targets R, N × C, at the same μ and M."""

    @abstractmethod
    def extend(self, images: Tensor, target: Tensor, noise: Tensor | None) -> Self:
        """The optimum with further samples at the same μ and M."""


def mean(makers: list[KernelMaker], form: Callable[[KernelMaker], Tensor]) -> Tensor:
    """The mean of what several makers form."""
    first, *others = (form(maker) for maker in makers)
    return sum(others, first) / len(makers)
