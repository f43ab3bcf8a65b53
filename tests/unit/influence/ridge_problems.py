"""Tiny float64 ridge problems and the retraining they are compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """J (N × C × P), R (N × C) and the Jacobian of M evaluation inputs (M × C × P)."""

    jacobian: Tensor
    target: Tensor
    evaluation: Tensor

    @property
    def gram(self) -> Tensor:
        rows = self.jacobian.flatten(0, 1)
        return rows @ rows.T

    @property
    def cross_gram(self) -> Tensor:
        return self.evaluation.flatten(0, 1) @ self.jacobian.flatten(0, 1).T


def make_problem(N: int, C: int, P: int, M: int = 5, seed: int = 0) -> Problem:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    size = 0.3 + 2.0 * torch.rand(N, 1, 1, generator=g, dtype=torch.float64)
    labels = torch.randint(C, (N,), generator=g)
    target = 15.0 * torch.nn.functional.one_hot(labels, C) - 0.3 * normal(N, C)
    return Problem(size * normal(N, C, P) / P**0.5, target, normal(M, C, P) / P**0.5)


def retrain(jacobian: Tensor, target: Tensor, mu: float) -> Tensor:
    """δ (P) of ``Σ‖R_i − J_i δ‖² + μ‖δ‖²`` by orthogonal factorisation of the stacked problem."""
    P = jacobian.shape[-1]
    rows = jacobian.flatten(0, 1)
    stacked = torch.cat([rows, mu**0.5 * torch.eye(P, dtype=rows.dtype)])
    right = torch.cat([target.reshape(-1), rows.new_zeros(P)])
    Q, R = torch.linalg.qr(stacked)
    return torch.linalg.solve_triangular(R, (Q.T @ right)[:, None], upper=True)[:, 0]


def without(N: int, *removed: int) -> Tensor:
    return torch.tensor([i for i in range(N) if i not in removed])
