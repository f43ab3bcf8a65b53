"""The rows of J in the few coordinates that carry most of the tangent kernel, for large problems."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from lqf.curvature import KroneckerFactors
from lqf.curvature.probes import ProbeCount
from lqf.fitted.optimum import Moves, Problem
from lqf.influence import Coordinates
from lqf.solve import KernelPreconditioner, PrimalPath, RidgeChoice, RidgePath
from lqf.solve.dual_pcg import DualPrecondition, SharedKernelPreconditioner, kernel_of_rows
from lqf.solve.ridge_path import Criterion

# Coordinates that are taken, and the bytes the rows may take before there are fewer.
SIZE = 4096
_LEAST = 256
_BYTES = 2**30
# Rows of the largest kernel that is decomposed to choose μ.
_DECOMPOSED = 1024

Rest = Literal["sampled", "dropped"]


class Compressed:
    """Rows of J in k coordinates of the Kronecker eigenbasis (`lqf.influence.compressed`).

    Args:
        problem: the problem.
        factors: Kronecker factors at w0.
        rest: "dropped" takes the coordinates of largest curvature, "sampled" others too, which
            makes the kernel right in expectation and each entry of it worse.
        combined: m, how many random combinations of the outputs stand for them all; None for
            every output.
        combinations: combinations of the outputs of each training sample, N × C × m, which stand
            for all of them; None for those of ``combined``.

    Attributes:
        rows: N × C × k, or N × m × k.
        size: k.
        passes: what the rows cost.
    """

    def __init__(
        self,
        problem: Problem,
        factors: KroneckerFactors,
        rest: Rest = "dropped",
        combined: int | None = None,
        combinations: Tensor | None = None,
    ) -> None:
        self._problem = problem
        C = problem.classes
        self._frame = None if combined is None else _frame(C, combined, problem.seed)
        count = C if combined is None else combined
        count = count if combinations is None else combinations.shape[2]
        self.passes = count / 2
        row = len(problem.images) * count * problem.images.element_size()
        size = max(_LEAST, min(SIZE, _BYTES // row))
        self._coordinates = Coordinates(factors, size, rest=rest, seed=problem.seed)
        self.size = self._coordinates.size
        self.rows = self.rows_of(problem.images, combinations)

    def rows_of(self, images: Tensor, probes: ProbeCount | Tensor | None = None) -> Tensor:
        """The rows of any images, in the same coordinates.

        Args:
            images: M × 3 × H × W.
            probes: which outputs, or combinations of them (`lqf.curvature.Coordinates.rows`); None
                for those that training samples have, if these are the same for all of them.

        Returns:
            M × C × k, or M × m × k.
        """
        with tqdm(desc="rows of J", disable=None, leave=False) as bar:
            return self._coordinates.rows(
                self._problem.linearized.network,
                images,
                probes=self._probes(len(images)) if probes is None else probes,
                seed=self._problem.seed,
                progress=Moves(bar),
            )

    def _probes(self, count: int) -> Tensor | Literal["all"]:
        if self._frame is None:
            return "all"
        return self._frame.to(self._problem.images).expand(count, -1, -1)

    def of(self, problem: Problem, rows: Tensor) -> Compressed:
        """The same coordinates with the rows of other training samples.

        Args:
            problem: the problem of those samples.
            rows: their rows.

        Returns:
            A new object; this one is untouched.
        """
        other = copy(self)
        other._problem, other.rows = problem, rows
        other.__dict__.pop("gram", None)
        return other

    @property
    def missing(self) -> float:
        """Mean square of a row in the coordinates that were dropped."""
        return self._coordinates.missing / self.rows.shape[1]

    @cached_property
    def gram(self) -> Tensor | None:
        """The kernel of the rows, NC × NC, float64; None where NC is above k."""
        return kernel_of_rows(self.rows) if self.rows[..., 0].numel() <= self.size else None

    def preconditioner(self, mu: float) -> DualPrecondition:
        """The preconditioner of the dual at μ.

        Args:
            mu: μ.

        Returns:
            It; combinations make one kernel that all outputs share.
        """
        missing = self._coordinates.missing / self._problem.classes
        if self._frame is not None:
            return SharedKernelPreconditioner(self.rows, mu, missing)
        return KernelPreconditioner(self.rows, mu, missing, gram=self.gram)

    def choose(self, target: Tensor, criterion: Criterion) -> RidgeChoice:
        """The μ with the smallest leave-one-out error, or GCV, of the compressed problem.

        Where the decomposition would be large, a few random combinations of the outputs stand for
        them all: on 25 birds (3,125 rows) the score of the choice by 8 of them was less than 0.5 %
        above the best.  The largest coordinates chose better than a sample of all of them (at most
        0.1 % above the best exact score where the sample was 2 and 7 %; textures and scenes).

        Args:
            target: R, N × C.
            criterion: ``loo`` or ``gcv``.

        Returns:
            The choice, and the curve it was made from.
        """
        rows, gram = self.rows, self.gram
        N, C = target.shape
        few = max(4, _DECOMPOSED // N)
        frame = None if self._frame is None else self._frame[:, :few]
        if self._frame is None and min(N * C, self.size) > _DECOMPOSED and few < C:
            frame = _frame(C, few, self._problem.seed)
            rows = frame.to(rows).T @ rows
        if frame is not None:
            rows, target, gram = rows[:, :few], target.double() @ frame.to(target.device), None
        if rows[..., 0].numel() > self.size:
            return PrimalPath(rows, target).choose(criterion=criterion)
        path = RidgePath(kernel_of_rows(rows) if gram is None else gram, target)
        return path.choose(criterion=criterion)


def _frame(classes: int, count: int, seed: int) -> Tensor:
    """Some orthonormal combinations of the outputs, C × m, float64."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(classes, classes, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(normal).Q[:, :count]
