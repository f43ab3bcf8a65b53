"""The prior's constants, chosen by exact leave-one-out: ε, the weight of the head, and μ.

All candidates share one run over the data: the rows of J are rotated once, and every ε is a division.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.ridge import Kernels, RidgePath

log = logging.getLogger(__name__)

#: Candidates for ε, in units of the mean curvature; the largest is almost the Euclidean metric.
EPSILONS = (1e3, 10.0, 0.1, 1e-3)
#: Candidates for what the prior variance of the head is multiplied by; the last is almost the head alone.
HEADS = (1.0, 10.0, 100.0, 1e4)
#: Rows of the largest kernel that is decomposed; a few combinations of the outputs stand for more.
DECOMPOSED = 800


@dataclass(frozen=True)
class Choice:
    """The constants chosen, and what they were chosen from.

    Attributes:
        mu: μ, in the unit of K.
        epsilon: ε, in the unit of the curvature; infinite for the Euclidean metric.
        head_scale: what the prior variance of the head is multiplied by.
        table: one row a candidate: ε, head scale, μ, mean squared leave-one-out error (in squared units of
            the outputs, summed over those that were looked at).
        unit: mean diagonal of the chosen K: μ means something relative to it.
        at_edge: the constants that lie at an edge of what was searched, in words; empty if none does.
    """

    mu: float
    epsilon: float
    head_scale: float
    table: Tensor
    unit: float
    at_edge: tuple[str, ...]


def choose(
    kernels: Kernels,
    target: Tensor,
    noise: Tensor | None,
    groups: list[Tensor] | None,
    seed: int,
    *,
    heads: tuple[float, ...] = HEADS,
    slack: float = 0.0,
) -> Choice:
    """The candidate with the smallest leave-one-out squared error.

    Args:
        kernels: of the samples, by ε; NC × NC, or N × N where the outputs share one.
        target: R, N × C.
        noise: 1/ω, N.
        groups: samples that leave together.
        seed: of combinations of the outputs.
        heads: candidates for the head's scale.
        slack: among candidates this much (relatively) above the smallest error, the one with the largest
            μ in units of the mean diagonal is taken, which conjugate gradients reach soonest.

    Returns:
        The choice.
    """
    rows: list[tuple[float, float, float, float]] = []
    units: list[float] = []
    mix, right = _combinations(target, kernels, seed)
    for epsilon in kernels.body:
        for head in heads:
            gram = kernels.at(epsilon, head)
            path = RidgePath(_mixed(gram, mix, len(target)), right, noise, groups)
            mus = path.grid()
            errors = path.errors(mus)
            rows += [(epsilon, head, float(m), float(e)) for m, e in zip(mus, errors, strict=True)]
            units += [path.unit] * len(mus)
    table = torch.tensor(rows, dtype=torch.float64)
    relative = table[:, 2] / torch.tensor(units, dtype=torch.float64)
    errors = table[:, 3].nan_to_num(nan=math.inf)
    near = errors <= errors.min() * (1 + slack)
    best = int(torch.where(near, relative, -1.0).argmax()) if slack else int(errors.argmin())
    epsilon, head, mu, _ = rows[best]
    edges = []
    if float(relative[best]) < 1.01 * float(relative.min()):
        edges.append("μ is the smallest")
    if float(relative[best]) > 0.99 * float(relative.max()):
        edges.append("μ is the largest")
    if len(kernels.body) > 1 and epsilon == min(kernels.body):
        edges.append("ε is the smallest")
    return Choice(mu, epsilon, head, table, units[best], tuple(edges))


def _combinations(target: Tensor, kernels: Kernels, seed: int) -> tuple[Tensor | None, Tensor]:
    """Orthonormal combinations of the outputs (C × m) where K is too large, and R in them."""
    N, C = target.shape
    size = len(next(iter(kernels.body.values())))
    m = max(1, DECOMPOSED // N)
    if size == N or size <= DECOMPOSED or m >= C:
        return None, target
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(C, C, generator=generator, dtype=torch.float64)
    mix = torch.linalg.qr(normal).Q[:, :m].to(target.device)
    return mix, target.double() @ mix


def _mixed(gram: Tensor, mix: Tensor | None, samples: int) -> Tensor:
    if mix is None:
        return gram
    C, m = mix.shape
    half = torch.einsum("icx,cm->imx", gram.view(samples, C, -1), mix)
    both = torch.einsum("xjc,cm->xjm", half.reshape(samples * m, samples, C), mix)
    return both.reshape(samples * m, samples * m)
