"""Problems too large for their kernel: conjugate gradients, and scores from a kernel of one output.

Dual coefficients are found to a stated residual.  What a sample does is estimated from the kernel that
the outputs share on average, ``k(x, x') = tr K(x, x')/C``, which random combinations of the outputs
give (with a random head the outputs' kernels agree in expectation), and from every sample's own block
K_ii, which says how its outputs differ and mix: if the others leave of the variance k_ii the part ρ_i,
they leave of K_ii about ``s ρ_i K_ii``.  The level s is found by solving for a few samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scipy.optimize import brentq
from torch import Tensor

from lqf.budget import budget
from lqf.curvature import Metric, SampleGradients
from lqf.jacobian import NetworkJacobian
from lqf.optimum.base import ASKED, Optimum, mean
from lqf.optimum.choice import Choice
from lqf.optimum.problem import Effort, LeftOut, Problem
from lqf.ridge import DenseRidge, KernelMaker, solve_dual

log = logging.getLogger(__name__)

# Samples that the level of estimates is found with, and the relative residual of their solves.  On photographs (20 objects, N = 200;
# 25 birds, N = 150) s was 0.95 ± 0.01 with three samples and ± 0.02 with one; random targets of all samples varied twice as much.
_SOLVED, _CLOSE = 3, 0.1
# The largest level that is looked for.
_HIGHEST = 1e3
# Random combinations of the outputs whose kernels are averaged, and multiplications they may take.
_COMBINATIONS, SHARED_WORK = 8, 4e11
# The same of the kernel that preconditions the solver.  On photographs (textures, N = 80, C = 10) a residual of 1e-2 took 27, 23,
# 16 and 14 iterations without it at four priors, 13, 12, 12 and 9 with one combination, and one or two less with four; on 200
# photographs of 20 objects 36 without it, and 23 with two.
_PRECONDITION, _PRECONDITION_WORK = 2, 4e11


@dataclass(eq=False)
class LargeOptimum(Optimum):
    """A solution to a stated residual; scores are estimates and say so.

    Attributes:
        shared: the kernel that preconditioned the solver, N × N; None where there was none.
    """

    shared: Tensor | None

    exact = False
    solver = "conjugate gradients"

    @classmethod
    def solved(
        cls,
        problem: Problem,
        samples: SampleGradients,
        metric: Metric,
        mu: float,
        choice: Choice | None,
        effort: Effort,
        shared: Tensor | None = None,
        start: Tensor | None = None,
    ) -> LargeOptimum:
        """Solve by conjugate gradients, from ``start`` or from zero; arguments as in the class.

        The preconditioner is ``shared``, which choosing the constants has left where all samples took part;
        a solve from zero that is given none makes it where that pays.
        """
        count = int(_PRECONDITION_WORK // problem.work(len(problem.target)))
        if start is None and shared is None and count:
            makers = _makers(problem, samples, metric, min(count, _PRECONDITION))
            shared = mean(makers, lambda maker: maker.gram(problem.images))
            effort.passes += len(makers)
        jacobian = problem.jacobian
        with jacobian.keeping(budget(problem.target.device)):
            solution = solve_dual(
                lambda a: _kernel(jacobian, metric, a),
                problem.target[None],
                _shift(problem, mu),
                tolerance=0.9 * problem.tolerance,
                max_iterations=max(1, int(problem.max_passes - effort.passes)),
                precondition=_preconditioner(problem, mu, shared),
                start=None if start is None else start[None],
                resume=problem.resume,
                progress=problem.progress,
            )
        effort.passes += solution.iterations
        known = problem, samples, metric, solution.coefficients[0], mu, choice, effort
        return cls.certified(*known, shared)

    @cached_property
    def makers(self) -> list[KernelMaker]:
        """Makers of the kernels of some combinations of the outputs."""
        count = int(
            min(_COMBINATIONS, max(1, SHARED_WORK // self.problem.work(len(self.problem.target))))
        )
        return _makers(self.problem, self.samples, self.metric, count)

    @cached_property
    def ridge(self) -> DenseRidge:
        """The problem under the kernel that all outputs share, N × N; made when it is first asked for."""
        log.warning(
            "this problem is too large to hold its kernel: what is said about samples is estimated "
            "from a kernel that all outputs share"
        )
        gram = mean(self.makers, lambda maker: maker.gram(self.problem.images))
        return DenseRidge(gram, self.problem.target, self.mu, self.problem.noise)

    @cached_property
    def roots(self) -> Tensor:
        """Q of every training sample, ``Q_i² = K_ii/k_ii``, N × C × C, by C backward passes of each."""
        passes = (1 + 2 * self.problem.target.shape[1]) / 3
        log.info("the outputs' own kernels take %.0f passes over the training images", passes)
        own = KernelMaker(self.samples, self.metric).own(self.problem.images)
        values, vectors = torch.linalg.eigh(own)
        values = values.clamp(min=0) / _positive(self.ridge.gram.diagonal())[:, None]
        return ((vectors * values.sqrt()[:, None]) @ vectors.mT).to(self.problem.target)

    @cached_property
    def level(self) -> tuple[float, float]:
        """Mean and standard deviation over a few samples of the factor s of estimated variances.

        It makes ``zᵀG_iiz`` of random signs z what solving for them finds.
        """
        N, C = self.problem.target.shape
        count = min(_SOLVED, N)
        generator = torch.Generator().manual_seed(self.problem.seed)
        places = torch.randperm(N, generator=generator)[:count]
        signs = torch.randint(0, 2, (count, C), generator=generator) * 2.0 - 1
        places, signs = places.to(self.delta.device), signs.to(self.problem.target)
        right = signs.new_zeros(count, N, C)
        right[torch.arange(count), places] = signs
        jacobian = self.problem.jacobian
        with jacobian.keeping(budget(right.device)):
            solution = solve_dual(
                lambda a: _kernel(jacobian, self.metric, a),
                right,
                _shift(self.problem, self.mu),
                tolerance=_CLOSE,
                max_iterations=self.problem.max_passes,
                precondition=_preconditioner(self.problem, self.mu, self.shared),
            )
        true = (solution.coefficients * right).double().sum((1, 2)).tolist()
        ridge = self.ridge
        noise = self.mu * ridge.noise[places]
        left = 1 / ridge.inverse.diagonal()[places] - noise
        values, vectors = torch.linalg.eigh(self.roots[places].double())
        squares = torch.einsum("idc,id->ic", vectors, signs.double()).square()

        def excess(level: float, i: int) -> float:
            variances = level * left[i] * values[i].square()
            return float((squares[i] / (noise[i] + variances)).sum()) - true[i]

        # Where the kernel is below the rounding of μ nothing is found, and nothing depends on it.
        found = torch.tensor(
            [
                brentq(excess, 0, _HIGHEST, (i,)) if excess(0, i) > 0 > excess(_HIGHEST, i) else 1.0
                for i in range(count)
            ]
        )
        return float(found.mean()), float(found.std()) if count > 1 else 0.0

    def leave_one_out(self, groups: list[Tensor] | None = None) -> LeftOut:
        """Estimates: ``G_gg⁻¹ ≈ μΩ⁻¹ + s Q (g_gg⁻¹ − μΩ⁻¹) Q`` of every group, ``Q_i² = K_ii/k_ii``.

        G_gg is a block of the inverse, g_gg the same of the shared kernel.
        """
        ridge, a = self.ridge, self.coefficients.double()
        found = self.mu * ridge.noise[:, None] * a
        everyone = torch.arange(len(a), device=a.device)
        for group in everyone.split(1) if groups is None else groups:
            left = torch.linalg.inv(ridge.inverse[group][:, group])
            left -= torch.diag(self.mu * ridge.noise[group])
            roots = self.roots[group].double()
            turned = torch.einsum("jcd,jd->jc", roots, a[group])
            found[group] += self.level[0] * torch.einsum("icd,id->ic", roots, left @ turned)
        return LeftOut(found, self.exact, self.level)

    def covariance(self, images: Tensor) -> Tensor:
        """Estimates of ``J (JᵀΩJ + μM)⁻¹ Jᵀ`` of every image, M × C × C, float64."""
        maker, problem = KernelMaker(self.samples, self.metric), self.problem
        mix = torch.cat(combinations(problem.target.shape[1], len(self.makers), problem.seed), 1)
        parts = []
        for part in images.split(ASKED):
            blocks = maker.own(part)
            # What the shared kernel has for k_tt is in the block.
            own = torch.einsum("icd,ck,dk->i", blocks, mix.to(blocks), mix.to(blocks))
            own = _positive(own / len(self.makers))[:, None, None]
            shared = self.ridge.covariance(self.kernel(part), own) / own
            parts.append(self.level[0] * shared * blocks)
        return torch.cat(parts)

    def forget(self, kept: Tensor, gone: Tensor) -> LargeOptimum:
        """The optimum of the samples in ``kept`` at the same μ and M, from where this one is."""
        shared = None if self.shared is None else self.shared[kept][:, kept]
        return self._again(self.problem.select(kept), self.coefficients[kept], shared)

    def relabel(self, target: Tensor) -> LargeOptimum:
        """The optimum for other targets R, N × C, at the same μ and M, from where this one is."""
        problem = replace(self.problem, target=target, resume=None)
        return self._again(problem, self.coefficients, self.shared)

    def extend(self, images: Tensor, target: Tensor, noise: Tensor | None) -> LargeOptimum:
        """The optimum with further samples at the same μ and M, from where this one is."""
        problem = self.problem.joined(images, target, noise)
        start = torch.cat([self.coefficients, torch.zeros_like(target)])
        shared = self.shared
        if shared is not None:
            mean = shared.diagonal().mean().expand(len(target))
            shared = torch.block_diag(shared, torch.diag(mean))
        return self._again(problem, start, shared)

    def _again(self, problem: Problem, start: Tensor, shared: Tensor | None) -> LargeOptimum:
        known = self.samples, self.metric, self.mu, None, Effort(fit=self.certificate)
        return self.solved(problem, *known, shared, start)


def _makers(
    problem: Problem, samples: SampleGradients, metric: Metric, count: int
) -> list[KernelMaker]:
    """Makers of the kernels of some random combinations of the outputs, C at most."""
    return [
        KernelMaker(samples, metric, column)
        for column in combinations(problem.target.shape[1], count, problem.seed)
    ]


def _preconditioner(
    problem: Problem, mu: float, shared: Tensor | None
) -> Callable[[Tensor], Tensor] | None:
    """The inverse if all outputs had the shared kernel, and none with another."""
    if shared is None:
        return None
    # Copies of an image make equal rows, but for the rounding of their products.
    rounding = 32 * torch.finfo(problem.target.dtype).eps * shared.diagonal().max()
    factor = torch.linalg.cholesky(shared + torch.diag(_shift(problem, mu).to(shared) + rounding))
    return lambda r: torch.cholesky_solve(r.double(), factor).to(r)


def combinations(outputs: int, count: int, seed: int) -> list[Tensor]:
    """Random orthonormal combinations of the outputs, each C × 1."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(outputs, outputs, generator=generator, dtype=torch.float64)
    return list(torch.linalg.qr(normal).Q[:, :count].T.unsqueeze(2))


def _kernel(jacobian: NetworkJacobian, metric: Metric, a: Tensor) -> Tensor:
    """``K a`` for k × N × C coefficients, by passes."""
    return torch.stack([jacobian.forward(metric.solve(jacobian.pull(each))) for each in a])


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny)


def _shift(problem: Problem, mu: float) -> Tensor:
    ones = torch.ones_like(problem.target[:, 0])
    return mu * (ones if problem.noise is None else problem.noise)
