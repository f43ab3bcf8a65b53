"""Scores and retrained models from the dual solution: exact, and no removal costs any training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from lqf.budget import budget, gigabytes
from lqf.experiments.kernel import Kernel
from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Task
from lqf.influence import (
    DualRidge,
    fsi_eq8,
    fsi_kfac,
    functional_sample_information,
    leave_one_out_outputs,
)
from lqf.influence.dual import sample_rows
from lqf.losses import error_rate
from lqf.solve import RidgePath

log = logging.getLogger(__name__)

#: Rows of the largest Gram matrix that is decomposed again for every removal.
EXACT_ROWS = 12_000


class ExactModel:
    """The optimum of a problem whose Gram matrix fits, and everything exact about its samples.

    Args:
        problem: the linear problem.
        task: its task; F-SI averages over the validation images, errors are those on test.
        mu: the ridge constant; None chooses it by leave-one-out.
    """

    scored_by = "fsi_exact"
    retrained_by = "dual"

    def __init__(self, problem: LinearProblem, task: Task, mu: float | None = None) -> None:
        self._problem, self._task = problem, task
        self._kernel = Kernel.of(problem)
        gram, target = self._kernel.gram, self._kernel.target
        self.mu = RidgePath(gram, target).choose().mu if mu is None else mu
        self._cross = self._kernel.cross(task.val)
        self._test = problem.jacobian_of(task.test)
        log.info("ridge constant by leave-one-out: mu = %.4g", self.mu)

    @staticmethod
    def refusal(problem: LinearProblem, task: Task) -> str | None:
        """Why the matrices of a problem do not fit, in half a sentence; None if they do."""
        rows = problem.jacobian.samples * problem.jacobian.outputs
        across = len(task.val) * problem.jacobian.outputs
        # The Gram matrix, its part, factor, inverse and work space; and the validation images'.
        needed, allowed = 8 * rows * (5 * rows + 2 * across), budget(problem.jacobian.base.device)
        if rows <= EXACT_ROWS and needed <= allowed:
            return None
        return (
            f"{problem.jacobian.samples} samples × {problem.jacobian.outputs} classes have a Gram "
            f"matrix of {rows} rows, which takes {gigabytes(needed)}; up to {EXACT_ROWS} rows and "
            f"{gigabytes(allowed)} are computed exactly"
        )

    @cached_property
    def _ranking(self) -> Tensor:
        kernel = self._kernel
        return functional_sample_information(kernel.gram, self._cross, kernel.target, self.mu)

    def ranking(self) -> Tensor:
        """F-SI of every training sample, N."""
        return self._ranking

    def columns(self) -> dict[str, Tensor]:
        """What ``scores.csv`` says of every sample, by column, N each."""
        kernel, mu, problem = self._kernel, self.mu, self._problem
        solution = DualRidge(kernel.gram, kernel.target, mu)
        approximate = fsi_kfac(
            problem.jacobian,
            problem.preconditioner(mu / len(self._task.train)),
            solution.residuals().to(problem.jacobian.base.dtype),
            problem.jacobian_of(self._task.val),
        )
        base = problem.jacobian.base.double()
        outputs = base + leave_one_out_outputs(kernel.gram, kernel.target, mu)
        return {
            "fsi_exact": self._ranking,
            "fsi_eq8": fsi_eq8(kernel.gram, self._cross, kernel.target, mu),
            "fsi_kfac": approximate,
            "leverage": solution.leverage().diagonal(dim1=1, dim2=2).mean(1),
            "loo_error": (outputs.argmax(1) != self._task.train.labels).int(),
        }

    def _part(self, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gram matrix, its columns' positions and targets of the samples in ``kept``."""
        kernel = self._kernel
        rows = sample_rows(kept, kernel.target.shape[1])
        return kernel.gram[rows][:, rows], rows, kernel.target[kept]

    def scores(self, walk: str, number: int, kept: Callable[[int], Tensor]) -> Tensor:
        """F-SI of the samples in ``kept(number)`` in the model trained on them."""
        gram, rows, target = self._part(kept(number).to(self._cross.device))
        return functional_sample_information(gram, self._cross[:, rows], target, self.mu)

    def error(self, walk: str, number: int, kept: Callable[[int], Tensor]) -> float:
        """Test error in % of the model trained on the samples in ``kept(number)``."""
        chosen = kept(number).to(self._cross.device)
        gram, _, target = self._part(chosen)
        coefficients = torch.zeros_like(self._kernel.target)
        coefficients[chosen] = DualRidge(gram, target, self.mu).coefficients
        delta = self._problem.jacobian.pull(coefficients.to(self._test.base.dtype))
        return error_rate(self._test.base + self._test.forward(delta), self._task.test.labels)
