"""A linear problem in its dual: everything exact about it, from the Gram matrix of its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.budget import budget
from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Split
from lqf.linear import (
    DenseJacobian,
    FeatureJacobian,
    Jacobian,
    Linearized,
    NetworkJacobian,
    tangent_kernel,
)
from lqf.run import progress


@dataclass(frozen=True)
class Kernel:
    """The training samples' Gram matrix and what else the exact formulas need, in float64.

    Args:
        gram: K = J Jᵀ, NC × NC.
        target: R = αY − f0, N × C.
    """

    gram: Tensor
    target: Tensor
    _problem: LinearProblem

    @classmethod
    def of(cls, problem: LinearProblem) -> Kernel:
        """The kernel of a problem, from its Jacobian, held or made again block by block."""
        jacobian = problem.jacobian
        target = problem.residual_target().double()
        if isinstance(jacobian, NetworkJacobian):
            memory = budget(jacobian.base.device)
            with progress(jacobian.samples, "Gram matrix", "sample") as bar:
                gram = tangent_kernel(
                    jacobian.linearized, jacobian.images, memory=memory, progress=bar.update
                )
            return cls(gram, target, problem)
        return cls(_product(jacobian, jacobian).double(), target, problem)

    def cross(self, split: Split, batch: int = 32) -> Tensor:
        """``K_tX`` between another split and the training samples, MC × NC, block by block."""
        jacobian = self._problem.jacobian
        if self._problem.method.trained == "head":
            return _product(self._problem.jacobian_of(split), jacobian).double()
        if isinstance(jacobian, NetworkJacobian):
            memory = budget(jacobian.base.device)
            with progress(len(split), "Gram matrix with validation", "sample") as bar:
                return tangent_kernel(
                    jacobian.linearized,
                    split.images,
                    jacobian.images,
                    memory=memory,
                    progress=bar.update,
                )
        linearized = Linearized(self._problem.network)
        blocks = []
        for images in split.images.split(batch):
            rows = linearized.jacobian(images)
            others = DenseJacobian(rows, rows.new_zeros(rows.shape[:2]))
            blocks.append(_product(others, jacobian))
        return torch.cat(blocks).double()


def _product(first: Jacobian, second: Jacobian) -> Tensor:
    """``J J'ᵀ`` of two Jacobians held in memory, MC × NC.

    Raises:
        TypeError: if they are of different kinds.
    """
    if isinstance(first, FeatureJacobian) and isinstance(second, FeatureJacobian):
        shared = first.features @ second.features.T + 1.0
        return torch.kron(shared, torch.eye(first.outputs).to(shared))
    if isinstance(first, DenseJacobian) and isinstance(second, DenseJacobian):
        return first.matrix.flatten(0, 1) @ second.matrix.flatten(0, 1).T
    raise TypeError(f"no Gram matrix of {type(first).__name__} and {type(second).__name__}.")
