import pytest
import torch
from torch import Tensor

from lqf.networks.pooling import (
    AveragePooling,
    CovariancePooling,
    covariance,
    matrix_square_root,
)


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_covariance_is_numpys() -> None:
    x = maps(3, 5, 20)

    for one, expected in zip(covariance(x), x, strict=True):
        torch.testing.assert_close(one, torch.cov(expected, correction=0))


def test_square_root_by_eigenvalues() -> None:
    matrix = covariance(maps(1, 6, 40))
    values, vectors = torch.linalg.eigh(matrix[0])

    expected = vectors @ torch.diag(values.sqrt()) @ vectors.T

    torch.testing.assert_close(matrix_square_root(matrix, 20)[0], expected)


def test_constant_features_give_zeros() -> None:
    pool = CovariancePooling(4, 2)

    pooled = pool(torch.ones(2, 4, 3, 3))

    assert pooled.abs().max() < 1e-6


def test_pooled_is_the_upper_triangle_of_the_root() -> None:
    pool = CovariancePooling(4, 3).double()
    x = maps(2, 4, 5, 5)

    root = matrix_square_root(covariance(pool.reduce(x).flatten(2)), pool.iterations)

    rows, columns = torch.triu_indices(3, 3)
    torch.testing.assert_close(pool(x), root[:, rows, columns])
    assert pool.size == 6


def test_calibration_matches_the_norm_of_average_pooling_and_keeps_principal_axes() -> None:
    scale = torch.tensor([3.0, 0.1, 2.0, 0.1], dtype=torch.float64)[:, None, None]
    x = maps(50, 4, 4, 4) * scale + 1.0
    pool = CovariancePooling(4, 2).double()

    pool.calibrate(x)

    average = AveragePooling(4)(x).norm(dim=1).mean()
    torch.testing.assert_close(pool(x).norm(dim=1).mean(), average)
    # The two channels of large variance span the kept space.
    kept = pool.reduce.weight[:, :, 0, 0]
    assert kept[:, [1, 3]].abs().max() < 0.05
    torch.testing.assert_close(kept @ kept.T, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("positions", [4, 49])
def test_derivative_exists_where_positions_are_fewer_than_channels(positions: int) -> None:
    x = maps(1, 6, positions).requires_grad_()

    (gradient,) = torch.autograd.grad(matrix_square_root(covariance(x)).sum(), x)

    assert torch.isfinite(gradient).all()
