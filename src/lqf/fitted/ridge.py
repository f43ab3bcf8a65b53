"""The ridge constant of a problem whose Gram matrix does not fit, by generalised cross-validation.

``GCV(μ) = ‖r(μ)‖²/N / (tr(I − H(μ))/NC)²`` (Golub, Heath & Wahba 1979) is the leave-one-out score
with every leverage replaced by their mean.  One random sign vector z estimates the trace,
``E zᵀ(I − H)z = tr(I − H)`` (Girard 1989): over NC coordinates it averages itself.  Both numbers
come from one subspace of parameters, grown with the two right-hand sides Jᵀ R and Jᵀ z like that of
preconditioned conjugate gradients.  Inside the subspace every μ is solved at once, and the error of
``zᵀHz``, an energy, is the square of the solution's.

The preconditioner and the residuals are those of three μ in turn, 1/1000, 1/100 and 1/10 of the mean
eigenvalue of K: grown for a small μ alone the subspace would miss the solutions at a large one.
What it does not reach counts as not fitted, so a small subspace prefers a larger μ.
On the demo's digits, fonts and Greek letters, and on pets and handwriting with a CIFAR-10 ResNet-20
(900 to 2,400 rows of J), the exact leave-one-out score of the choice was 5.7, 2.3, 0.0, 0.8 and
8.9 % above the best after 6 iterations; choosing exactly on a third of the samples, as far as J is
held in memory, was 5, 15 and 4 % above for the first three, on an eighth 39, 15 and 4 %.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.linear import Jacobian
from lqf.solve import RidgeChoice
from lqf.solve.protocol import Precondition, Progress

log = logging.getLogger(__name__)

# Candidates for μ, and those the subspace is grown for, in units of the mean eigenvalue of K.
_SMALLEST, _LARGEST, _COUNT = 1e-5, 1e3, 65
_GROWN_FOR = (1e-3, 1e-2, 1e-1)
ITERATIONS = 6


@dataclass(frozen=True)
class PathStart:
    """What the search leaves behind.

    Attributes:
        choice: μ, and the curve it was chosen from.
        delta: the solution at μ inside the subspace, P; a start for the solver.
        passes: passes over the samples it took.
    """

    choice: RidgeChoice
    delta: Tensor
    passes: float


def choose_by_gcv(
    jacobian: Jacobian,
    target: Tensor,
    preconditioner: Callable[[float], Precondition],
    *,
    iterations: int = ITERATIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> PathStart:
    """The μ with the smallest estimate of generalised cross-validation.

    Args:
        jacobian: J of the N samples.
        target: R = αY − f0, N × C.
        preconditioner: makes ``P ≈ (G + wd I)⁻¹`` of a weight decay wd = μ/N.
        iterations: how often the subspace grows, by two directions and two passes (2 P numbers).
        seed: of the random signs.
        progress: called as progress(done, total, note) after each iteration.

    Returns:
        The choice, and the start it gives the solver.

    Raises:
        ValueError: if the Jacobian or the targets are zero.
    """
    target = target.to(jacobian.base)
    generator = torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(2, tuple(target.shape), generator=generator) - 1.0
    goals = [target, signs.to(target)]
    residuals = [jacobian.pull(goal) for goal in goals]
    mean = residuals[1].double().square().sum().item() / target.numel()
    if not 0 < mean < math.inf:
        raise ValueError(
            f"The mean eigenvalue of the Gram matrix is {mean}, so no ridge constant can be "
            "chosen; a zero head makes the backbone's Jacobian zero: initialise the head at random."
        )
    exponents = torch.linspace(
        math.log10(_SMALLEST), math.log10(_LARGEST), _COUNT, dtype=torch.float64
    )
    mus = mean * 10**exponents
    applied = [preconditioner(mean * part / jacobian.samples).apply for part in _GROWN_FOR]
    space = _Subspace(jacobian, goals)
    for iteration in range(iterations):
        for residual in residuals:
            space.add(applied[iteration % len(applied)](residual))
        scores = space.scores(mus)
        best = int(scores.argmin())
        mu = float(mus[best])
        if progress is not None:
            progress(iteration + 1, iterations, f"mu {mu:.2e}")
        if iteration + 1 < iterations:
            low = mean * _GROWN_FOR[(iteration + 1) % len(applied)]
            residuals = [
                jacobian.pull(goal - space.outputs(k, low)) - low * space.solution(k, low)
                for k, goal in enumerate(goals)
            ]
    at_edge = best in (0, len(mus) - 1)
    log.log(
        logging.WARNING if at_edge else logging.INFO,
        "mu = %.3g by generalised cross-validation%s",
        mu,
        ", the edge of what was searched" if at_edge else "",
    )
    choice = RidgeChoice(mu, mus, scores, at_edge)
    return PathStart(choice, space.solution(0, mu), 2.0 * iterations)


class _Subspace:
    """Orthonormal directions V, their images JV, and the problem for every μ inside their span."""

    def __init__(self, jacobian: Jacobian, goals: list[Tensor]) -> None:
        self._jacobian = jacobian
        self._goals = torch.stack([goal.double().reshape(-1) for goal in goals])
        self._shape = goals[0].shape
        self._directions: list[Tensor] = []
        self._images: list[Tensor] = []

    def add(self, vector: Tensor) -> None:
        """One more direction, unless rounding alone sets it apart from those there are."""
        size = vector.norm()
        for _ in range(2):  # twice is enough
            for direction in self._directions:
                vector = vector - (direction @ vector) * direction
        left = vector.norm()
        if not left > 10 * torch.finfo(vector.dtype).eps * size:
            return
        vector = vector / left
        self._directions.append(vector)
        self._images.append(self._jacobian.forward(vector).double().reshape(-1))
        W = torch.stack(self._images)
        # (JV)ᵀJV = U θ Uᵀ: coordinates in which every μ is a division.
        self._theta, U = torch.linalg.eigh(W @ W.T)
        self._theta = self._theta.clamp(min=0)
        self._rotation = U
        self._rotated = U.T @ W
        self._right = self._rotated @ self._goals.T

    def scores(self, mus: Tensor) -> Tensor:
        """GCV for every μ, in the unit of the squared leave-one-out residual."""
        shrink = 1.0 / (self._theta + mus.to(self._theta)[:, None])
        goal, signs = (self._right[:, k] for k in (0, 1))
        total = self._goals.square().sum(1)
        weights = shrink * goal
        residual = total[0] - 2 * weights @ goal + (weights.square() * self._theta).sum(1)
        freedom = 1 - (shrink @ signs.square()) / total[1]
        return (residual.clamp(min=0) / self._shape[0] / freedom.square()).cpu()

    def _weights(self, k: int, mu: float) -> Tensor:
        return self._right[:, k] / (self._theta + mu)

    def outputs(self, k: int, mu: float) -> Tensor:
        """``J δ`` of right-hand side k at μ, N × C."""
        flat = self._weights(k, mu) @ self._rotated
        return flat.reshape(self._shape).to(self._directions[0])

    def solution(self, k: int, mu: float) -> Tensor:
        """δ of right-hand side k at μ, P."""
        coordinates = self._rotation @ self._weights(k, mu)
        delta = torch.zeros_like(self._directions[0])
        for weight, direction in zip(coordinates.tolist(), self._directions, strict=True):
            delta.add_(direction, alpha=weight)
        return delta
