"""A linear problem in its dual: everything exact about it, from the Gram matrix of its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Split
from lqf.linear import DenseJacobian, FeatureJacobian, Jacobian, Linearized, NetworkJacobian


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
        """The kernel of a problem whose Jacobian fits in memory.

        Raises:
            ValueError: if it does not fit.
        """
        jacobian = problem.jacobian
        if isinstance(jacobian, NetworkJacobian):
            raise ValueError(  # noqa: TRY004  (a size, not a type, is wrong)
                f"{jacobian.samples} samples × {jacobian.outputs} classes × {jacobian.size} "
                "parameters are too many to hold; lower train_per_class for this experiment."
            )
        target = problem.residual_target().double()
        return cls(_product(jacobian, jacobian).double(), target, problem)

    def cross(self, split: Split, batch: int = 32) -> Tensor:
        """``K_tX`` between another split and the training samples, MC × NC, block by block."""
        if self._problem.method.trained == "head":
            return _product(self._problem.jacobian_of(split), self._problem.jacobian).double()
        linearized = Linearized(self._problem.network)
        blocks = []
        for images in split.images.split(batch):
            rows = linearized.jacobian(images)
            others = DenseJacobian(rows, rows.new_zeros(rows.shape[:2]))
            blocks.append(_product(others, self._problem.jacobian))
        return torch.cat(blocks).double()


def _product(first: Jacobian, second: Jacobian) -> Tensor:
    """``J J'ᵀ`` of two Jacobians held in memory, MC × NC.

    Raises:
        TypeError: if they are of different kinds.
    """
    if isinstance(first, FeatureJacobian) and isinstance(second, FeatureJacobian):
        shared = first.features @ second.features.T + 1.0
        return torch.kron(shared, torch.eye(first.outputs, dtype=shared.dtype))
    if isinstance(first, DenseJacobian) and isinstance(second, DenseJacobian):
        return first.matrix.flatten(0, 1) @ second.matrix.flatten(0, 1).T
    raise TypeError(f"no Gram matrix of {type(first).__name__} and {type(second).__name__}.")
