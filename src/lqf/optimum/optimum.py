"""Which of the two ways a problem is solved in, and with which constants."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lqf.curvature import Curvature, Metric, SampleGradients, estimate
from lqf.optimum.base import Optimum
from lqf.optimum.choice import DECOMPOSED, EPSILONS, HEADS, Choice, choose
from lqf.optimum.large import LargeOptimum, combinations
from lqf.optimum.problem import Effort, Problem
from lqf.optimum.small import SmallOptimum
from lqf.ridge import DenseRidge, KernelMaker

log = logging.getLogger(__name__)

#: Rows of the largest kernel that is held, and multiplications that forming it may take.  Without a kernel a Euclidean
#: problem of 2,304 rows (cyrillic letters of the demo) was at a residual of 0.5 after 50 passes.
MAX_ROWS, MAX_WORK = 4096, 4e11
#: Multiplications in the kernel that the constants are chosen from.
CHOICE_WORK = 1e11
#: A candidate that close (relatively) to the best is as good, where conjugate gradients have to reach it.
SLACK = 0.01
#: ε of a metric whose μ is given and nothing is chosen, in units of the mean curvature.
EPSILON = 0.1


def is_small(problem: Problem, shared: bool = False) -> bool:
    """Whether the kernel of a problem is formed; one that all outputs share has a row a sample."""
    rows = len(problem.target) if shared else problem.target.numel()
    return rows <= MAX_ROWS and problem.work(rows) <= MAX_WORK


def fit(
    problem: Problem,
    curvature: Curvature | None = None,
    *,
    constants: tuple[float, float] | None = None,
) -> Optimum:
    """The optimum of a problem.

    Args:
        problem: the problem.
        curvature: F of its images, where that is known; None estimates it if the metric needs it.
        constants: ε and the head's scale, where they are given with μ.

    Returns:
        The optimum: exact where the kernel is small, to the problem's tolerance elsewhere.

    Raises:
        ValueError: if the curvature is zero.
    """
    effort = Effort()
    samples = SampleGradients(problem.linearized, problem.images)
    if problem.metric == "euclidean":
        curvature = None
    elif curvature is None:
        curvature = estimate(samples, problem.images, seed=problem.seed, batch=problem.batch)
        effort.passes += curvature.passes
    if curvature is not None and not curvature.mean > 0:
        raise ValueError(
            "the curvature is zero, so nothing can be fitted: no output depends on a trained parameter; check "
            "that the head is not zero and that the activations before it are not dead."
        )
    epsilons: tuple[float, ...] = (math.inf,)
    if constants is not None:
        epsilons = (constants[0],)
    elif curvature is not None:
        factors = EPSILONS if problem.mu is None else (EPSILON,)
        epsilons = tuple(factor * curvature.mean for factor in factors)
    shared = problem.head_alone and curvature is None and _shares(problem, samples)
    small = is_small(problem, shared)
    gram: Tensor | None = None
    known: Tensor | None = None
    choice: Choice | None = None
    epsilon, scale = (epsilons[0], 1.0) if constants is None else constants
    mu = problem.mu or 0.0
    if problem.mu is None:
        if small and curvature is None:
            # There is one ε, whose kernel is needed anyway.
            euclidean = Metric(None, problem.linearized.layout)
            own, cost = _gram(problem, samples, euclidean, shared)
            gram, choice = own, _chosen(problem, lambda *_: own, epsilons, problem.target, 0.0)
        else:
            choice, cost, known = _chosen_on_part(problem, samples, curvature, epsilons, small)
        effort.passes += cost
        epsilon, scale, mu = choice.epsilon, choice.head_scale, choice.mu
    metric = Metric(curvature, problem.linearized.layout, epsilon, problem.head, scale)
    if not small:
        return LargeOptimum.solved(problem, samples, metric, mu, choice, effort, known)
    if gram is None:
        gram, cost = _gram(problem, samples, metric, shared)
        effort.passes += cost
    target = problem.target.double()
    if dead := int((gram.diagonal() == 0).sum()):
        log.warning(
            "%d of %d outputs of training images do not depend on any trained parameter, so they cannot be "
            "fitted: an activation behind the head cuts them off; take it out, or use head='random'",
            dead,
            len(gram),
        )
    ridge = DenseRidge(gram, target, mu, problem.noise)
    return SmallOptimum.solved(problem, samples, metric, ridge, choice, effort)


def _gram(
    problem: Problem, samples: SampleGradients, metric: Metric, shared: bool
) -> tuple[Tensor, float]:
    """The kernel of all samples, and what it costs in passes."""
    C = problem.target.shape[1]
    first = torch.eye(C, 1) if shared else None
    gram = KernelMaker(samples, metric, first).gram(problem.images)
    return gram, (1 + 2 * (1 if shared else C)) / 3


def _chosen(
    problem: Problem,
    kernel: Callable[[float, float], Tensor],
    epsilons: tuple[float, ...],
    target: Tensor,
    slack: float,
) -> Choice:
    choice = choose(
        kernel,
        epsilons,
        target.double(),
        problem.noise,
        problem.group_positions(),
        heads=HEADS if len(epsilons) > 1 and problem.head else (1.0,),
        slack=slack,
    )
    if choice.at_edge:
        log.warning(
            "%s that was searched, which is right where training images differ; if some are copies of each "
            "other, give their groups, since leave-one-out then sees the other copy",
            " and ".join(choice.at_edge),
        )
    return choice


def _chosen_on_part(
    problem: Problem,
    samples: SampleGradients,
    curvature: Curvature | None,
    epsilons: tuple[float, ...],
    small: bool,
) -> tuple[Choice, float, Tensor | None]:
    """A choice from as many random combinations of the outputs of as many samples as the work allows.

    With one combination its kernel stands for that of every output.  What it cost in passes, and, where
    all samples took part, the mean of the combinations' own kernels (N × N) under the chosen constants.
    """
    N, C = problem.target.shape
    size = problem.linearized.layout.size
    rows = min(DECOMPOSED, int((2 * CHOICE_WORK / size) ** 0.5))
    count = min(N, max(64, rows))
    part = problem
    if count < N:
        generator = torch.Generator().manual_seed(problem.seed)
        order = torch.randperm(N, generator=generator)[:count]
        part = problem.select(order.sort().values.to(problem.target.device))
    mix = torch.cat(combinations(C, max(1, min(C, rows // count)), problem.seed), 1)
    several = mix.shape[1] > 1
    target = part.target.double() @ mix.to(part.target.device) if several else part.target
    metric = Metric(curvature, problem.linearized.layout, epsilons[0], problem.head)
    maker = KernelMaker(samples, metric, mix)
    gram = maker.gram(part.images) if curvature is None else None
    kernel = maker.candidates(part.images).at if gram is None else lambda *_: gram
    choice = _chosen(part, kernel, epsilons, target, 0.0 if small else SLACK)
    own = None
    if count == N and not small:
        m = mix.shape[1]
        blocks = kernel(choice.epsilon, choice.head_scale).view(N, m, N, m)
        own = blocks.diagonal(dim1=1, dim2=3).mean(2)
    return choice, (1 + 2 * mix.shape[1]) / 3 * count / N, own


def _shares(problem: Problem, samples: SampleGradients) -> bool:
    """Whether every output has the same kernel and none with another: a linear head alone is trained."""
    own = KernelMaker(samples, Metric(None, problem.linearized.layout)).own(problem.images[:2])
    mean = own.diagonal(dim1=1, dim2=2).mean(1)
    eye = torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
    return bool((own - mean[:, None, None] * eye).abs().max() <= 1e-4 * mean.max())
