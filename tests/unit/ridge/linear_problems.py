"""Small float64 problems of the solvers, and their dense solutions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.jacobian import DenseJacobian
from lqf.losses import SquaredLoss

ALPHA = 15.0


@dataclass(frozen=True)
class Problem:
    jacobian: DenseJacobian
    labels: Tensor
    loss: SquaredLoss

    @property
    def target(self) -> Tensor:
        return self.loss.targets(self.labels, torch.float64) - self.jacobian.base

    @property
    def rows(self) -> Tensor:
        return self.jacobian.matrix.flatten(0, 1)

    def hessian(self, weight_decay: float) -> Tensor:
        gauss_newton = self.rows.T @ self.rows / self.jacobian.samples
        return gauss_newton + weight_decay * torch.eye(len(gauss_newton), dtype=torch.float64)

    def right(self) -> Tensor:
        return self.rows.T @ self.target.flatten() / self.jacobian.samples

    def minimiser(self, weight_decay: float) -> Tensor:
        return torch.linalg.solve(self.hessian(weight_decay), self.right())


class Matrix:
    """A preconditioner given by its matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def solve(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def positive_definite(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def make_problem(N: int = 10, C: int = 3, P: int = 20, seed: int = 0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(N, C, P, generator=generator, dtype=torch.float64)
    base = torch.randn(N, C, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (N,), generator=generator)
    return Problem(DenseJacobian(matrix, base), labels, SquaredLoss(ALPHA, C))
