"""Problems too large for their kernel: conjugate gradients, and scores from a kernel of one output.

Dual coefficients are found to a stated residual.  What a sample does is estimated from the kernel that
the outputs share on average, ``k(x, x') = tr K(x, x')/C``, which random combinations of the outputs
give (with a random head the outputs' kernels agree in expectation).  Its level is calibrated on some
samples that are solved for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lqf.budget import budget
from lqf.curvature import Metric, SampleGradients
from lqf.jacobian import NetworkJacobian
from lqf.optimum.base import Optimum, mean
from lqf.optimum.choice import Choice
from lqf.optimum.problem import Effort, Problem
from lqf.ridge import DenseRidge, KernelMaker, solve_dual

log = logging.getLogger(__name__)

# Samples that the level of estimated scores is calibrated on, and the relative residual of their solves.
_CALIBRATED, _CLOSE = 3, 0.1
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
    def level(self) -> tuple[float, float]:
        """Mean and standard deviation of what G_ii of the shared kernel is short of or beyond.

        For a few samples i, ``u_iᵀ G_ii u_i`` along u_i = a_i/‖a_i‖ is solved for and compared.
        """
        N, C = self.problem.target.shape
        count = min(_CALIBRATED, N)
        generator = torch.Generator().manual_seed(self.problem.seed)
        places = torch.randperm(N, generator=generator)[:count].to(self.coefficients.device)
        own = self.coefficients[places]
        units = own / own.norm(dim=1, keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)
        right = own.new_zeros(count, N, C)
        right[torch.arange(count), places] = units
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
        found = solution.coefficients[torch.arange(count), places]
        true = (found * units).sum(1).double()
        ratio = true / self.ridge.inverse.diagonal()[places]
        return float(ratio.mean()), float(ratio.std()) if count > 1 else 0.0

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


def _shift(problem: Problem, mu: float) -> Tensor:
    ones = torch.ones_like(problem.target[:, 0])
    return mu * (ones if problem.noise is None else problem.noise)
