"""The problem that is posed, and the evidence that a solution of it is the optimum."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lqf.jacobian import Images, Linearized, NetworkJacobian
from lqf.memory import AtOnce
from lqf.ridge import Resume

# Called as progress(done, total, note).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Problem:
    """``Σ_i ω_i ‖R_i − J_iδ‖² + μ δᵀMδ``, whose μ and M are given or chosen.

    Args:
        linearized: f0 and J of the network at w0.
        images: N × 3 × H × W.
        target: R, N × C: α times the targets, less f0 unless that is left out.
        noise: 1/ω, N; None for ones.
        head: names of the head's parameters.
        metric: ``curvature`` or ``euclidean``.
        mu: μ, in the unit of K; None chooses it by leave-one-out.
        groups: which samples leave together when μ is chosen, N integers; None leaves each out by itself.
        tolerance: ``‖R − Jδ − μΩ⁻¹a‖/‖R‖`` to reach.
        max_passes: budget of conjugate gradients.
        seed: of everything random.
        batch: images at once.
        resume: keeps the state of conjugate gradients.
        progress: called as the work goes on.
    """

    linearized: Linearized
    images: Images
    target: Tensor
    noise: Tensor | None = None
    head: frozenset[str] = frozenset()
    metric: str = "curvature"
    mu: float | None = None
    groups: Tensor | None = None
    tolerance: float = 1e-2
    max_passes: int = 50
    seed: int = 0
    batch: AtOnce = field(default_factory=lambda: AtOnce(64, "a pass of the network"))
    resume: Resume | None = None
    progress: Progress | None = None

    @property
    def head_alone(self) -> bool:
        """Whether nothing but the head is trained."""
        return set(self.linearized.layout.names) <= self.head

    def work(self, rows: int) -> float:
        """Multiplications in a kernel of that many rows."""
        return rows**2 * self.linearized.layout.size / 2

    @property
    def jacobian(self) -> NetworkJacobian:
        """J of the training samples, by passes through the network."""
        return self.jacobian_of(self.images)

    def jacobian_of(self, images: Images) -> NetworkJacobian:
        """J of other images, by passes; f0 is not computed."""
        none = self.target.new_zeros(len(images), self.target.shape[1])
        return NetworkJacobian(self.linearized, images, self.batch, base=none)

    def select(self, kept: Tensor) -> Problem:
        """The problem of some of the samples."""
        return replace(
            self,
            images=self.images[kept],
            target=self.target[kept],
            noise=None if self.noise is None else self.noise[kept],
            groups=None if self.groups is None else self.groups[kept],
            resume=None,
        )

    def joined(self, images: Tensor, target: Tensor, noise: Tensor | None) -> Problem:
        """The problem with further samples, which come last; each is a group of its own."""
        whole: Tensor | None = None
        if self.noise is not None or noise is not None:
            old = torch.ones_like(self.target[:, 0]) if self.noise is None else self.noise
            whole = torch.cat([old, torch.ones_like(target[:, 0]) if noise is None else noise])
        groups = self.groups
        if groups is not None:
            new = torch.arange(len(images)).to(groups) + int(groups.max()) + 1
            groups = torch.cat([groups, new])
        return replace(
            self,
            images=torch.cat([self.images[:], images]),
            target=torch.cat([self.target, target]),
            noise=whole,
            groups=groups,
            resume=None,
        )

    def group_positions(self) -> list[Tensor] | None:
        """Positions of the samples of each group."""
        if self.groups is None:
            return None
        return [(self.groups == value).nonzero().squeeze(1) for value in self.groups.unique()]


@dataclass(frozen=True)
class Certificate:
    """The evidence that a solution is the optimum, computed through the network and not from its rows.

    Attributes:
        residual: ``‖R − Jδ − μΩ⁻¹a‖ / ‖R‖`` for the dual coefficients a of δ = M⁻¹Jᵀa.
        gap: ``‖R − Jδ − μΩ⁻¹a‖``, in units of the outputs: the root of the duality gap.  An output of a
            training sample is no further than this from the optimum's, one of another image no further
            than this times the root of its predictive covariance.
        tolerance: what was asked of the residual.
        met: whether it is within.
        passes: passes over the training samples, curvature and choices included; a product with J or
            Jᵀ is half of one.
        passes_of_fit: those of the fit from scratch that this solution started from.
        seconds: wall time.
        seconds_of_fit: that of the fit from scratch.
        solver: ``dense`` or ``conjugate gradients``.
    """

    residual: float
    gap: float
    tolerance: float
    met: bool
    passes: float
    passes_of_fit: float
    seconds: float
    seconds_of_fit: float
    solver: str

    def __str__(self) -> str:
        """Return the same in one sentence."""
        verdict = "within" if self.met else "NOT within"
        said = (
            f"relative residual {self.residual:.1e}, {verdict} the tolerance {self.tolerance:.1e} (duality "
            f"gap {self.gap:.2g} in units of the outputs), after {self.passes:.3g} passes over the data in "
            f"{self.seconds:.3g} s ({self.solver})"
        )
        if (self.passes, self.seconds) != (self.passes_of_fit, self.seconds_of_fit):
            said += (
                f"; the fit from scratch took {self.passes_of_fit:.3g} passes and "
                f"{self.seconds_of_fit:.3g} s"
            )
        return said


@dataclass
class Effort:
    """What has been done to find a solution.

    Attributes:
        passes: over the training samples.
        begin: when it began (``time.perf_counter``).
        fit: the certificate of the fit from scratch that the solution is updated from; None if it is one.
    """

    passes: float = 0.0
    begin: float = field(default_factory=time.perf_counter)
    fit: Certificate | None = None


@dataclass(frozen=True)
class LeftOut:
    """Residuals of every training sample under the optimum without it, at the same μ and M.

    Attributes:
        residuals: ``R_i − J_iδ₋ᵢ``, N × C, float64.
        exact: whether they are exact to rounding.
        level: mean and standard deviation, over some samples that were solved for, of the factor that estimated
            variances were multiplied by; (1, 0) where they are exact.
    """

    residuals: Tensor
    exact: bool
    level: tuple[float, float]
