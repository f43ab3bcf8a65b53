import pytest
import torch

from lqf.jacobian import DenseJacobian
from lqf.losses import CrossEntropy
from lqf.spectrum import effective_dimension, gram_eigenvalues, loss_gram


def _jacobian(N, C, P, seed=0):
    g = torch.Generator().manual_seed(seed)
    matrix = torch.randn(N, C, P, generator=g, dtype=torch.float64) / P**0.5
    return DenseJacobian(matrix, torch.zeros(N, C, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(6, 2, 30), (10, 3, 12)])
def test_gram_and_gauss_newton_share_their_eigenvalues(shape):
    N, _, P = shape
    jacobian = _jacobian(*shape)
    rows = jacobian.matrix.flatten(0, 1)
    dense = torch.linalg.eigvalsh(rows.T @ rows / N).flip(0)
    found = gram_eigenvalues(jacobian.gram(), N)
    k = min(P, len(rows))
    torch.testing.assert_close(found[:k], dense[:k], rtol=1e-9, atol=1e-12)
    assert (found[k:] < 1e-12).all()
    assert (found >= 0).all()


def test_the_loss_gram_has_the_eigenvalues_of_the_losss_hessian_in_the_parameters():
    """For a linear model the Gauss–Newton matrix is the Hessian: autograd finds the same."""
    N, C, P = 5, 3, 20
    jacobian = _jacobian(N, C, P)
    labels = torch.arange(N) % C
    base = torch.randn(N, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(delta):
        return CrossEntropy().value(base + jacobian.matrix @ delta, labels)

    hessian = torch.autograd.functional.hessian(loss, torch.zeros(P, dtype=torch.float64))
    found = gram_eigenvalues(loss_gram(jacobian.gram(), CrossEntropy().hessian_root(base)), N)
    expected = torch.linalg.eigvalsh(hessian).flip(0)[: N * C]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert (found[N * (C - 1) :] < 1e-12).all()


def test_effective_dimension_counts_what_stands_above_the_ridge():
    values = torch.tensor([1e6, 1.0, 0.0], dtype=torch.float64)
    assert effective_dimension(values, 1.0) == pytest.approx(1.5, rel=1e-5)
    assert effective_dimension(values, 1e-9) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gram_eigenvalues(torch.full((2, 2), float("nan")), 1), "NaN"),
        (lambda: effective_dimension(torch.ones(3), 0.0), "above 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
