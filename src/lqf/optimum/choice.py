"""The prior's constants, chosen by leave-one-out: ε, the weight of the head, and μ.

All candidates share one run over the data and one product of its rows (`lqf.ridge.Candidates`), whose curvature is
rounded to powers of two; leave-one-out is exact for that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.ridge import RidgePath

log = logging.getLogger(__name__)

#: Candidates for ε, in units of the mean curvature; the largest is almost the Euclidean metric.
EPSILONS = (1e3, 10.0, 0.1, 1e-3)
#: Candidates for what the prior variance of the head is multiplied by; the last is almost the head alone.
#: ε is chosen under the first, then the scale under that ε: on 14 tasks of the demo and seven of photographs the
#: leave-one-out error was that of all 16 pairs, but for 4.1 and 0.6 % in two (once, by hand).
HEADS = (1.0, 10.0, 100.0, 1e4)
#: Rows of the largest kernels that the constants are chosen from: seven are decomposed.  With half as
#: many, measured once on the demo, one task of 21 got a prior that was 10 points worse on test, in half the time.
DECOMPOSED = 800


@dataclass(frozen=True)
class Choice:
    """The constants chosen, and what they were chosen from.

    Attributes:
        mu: μ, in the unit of K.
        epsilon: ε, in the unit of the curvature; infinite for the Euclidean metric.
        head_scale: what the prior variance of the head is multiplied by.
        table: one row a candidate that was tried: ε, head scale, μ, mean squared leave-one-out error (in squared units of
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
    kernel: Callable[[float, float], Tensor],
    epsilons: Sequence[float],
    target: Tensor,
    noise: Tensor | None,
    groups: list[Tensor] | None,
    *,
    heads: tuple[float, ...] = HEADS,
    slack: float = 0.0,
) -> Choice:
    """The candidate with the smallest leave-one-out squared error: ε first, then the head's scale; μ under each.

    Args:
        kernel: of the samples for ε and the head's scale; NC × NC, or N × N where the outputs share one.
        epsilons: candidates for ε.
        target: R, N × C.
        noise: 1/ω, N.
        groups: samples that leave together.
        heads: candidates for the head's scale.
        slack: among candidates this much (relatively) above the smallest error, the one with the largest
            μ in units of the mean diagonal is taken, which conjugate gradients reach soonest.
    """
    rows: list[tuple[float, float, float, float]] = []
    units: list[float] = []

    def tried(epsilon: float, head: float) -> float:
        path = RidgePath(kernel(epsilon, head), target, noise, groups)
        mus = path.grid()
        errors = path.errors(mus)
        rows.extend((epsilon, head, float(m), float(e)) for m, e in zip(mus, errors, strict=True))
        units.extend([path.unit] * len(mus))
        return float(errors.nan_to_num(nan=math.inf).min())

    under = min(epsilons, key=lambda epsilon: tried(epsilon, heads[0]))
    for head in heads[1:]:
        tried(under, head)
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
    if len(epsilons) > 1 and epsilon == min(epsilons):
        edges.append("ε is the smallest")
    return Choice(mu, epsilon, head, table, units[best], tuple(edges))
