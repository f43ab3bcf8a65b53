import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lqf.linear import DenseJacobian
from lqf.spectrum import (
    condition_number,
    gauss_newton_matvec,
    gram_eigenvalues,
    lanczos_extremes,
    lanczos_spectrum,
    rank_kept,
)


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


@pytest.mark.parametrize("shape", [(6, 2, 30), (10, 3, 12)])
def test_lanczos_extremes_equal_dense(shape):
    N, _, P = shape
    jacobian = _jacobian(*shape)
    rows = jacobian.matrix.flatten(0, 1)
    dense = torch.linalg.eigvalsh(rows.T @ rows / N)
    low, high = lanczos_extremes(gauss_newton_matvec(jacobian), P, P)
    assert high == pytest.approx(dense[-1].item(), rel=1e-10)
    assert low == pytest.approx(dense[0].item(), abs=1e-12 * high)


def test_full_lanczos_finds_every_eigenvalue_without_ghosts():
    values = torch.logspace(-6, 2, 40, dtype=torch.float64)
    Q, _ = torch.linalg.qr(
        torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    matrix = (Q * values) @ Q.T
    result = lanczos_spectrum(lambda v: matrix @ v, 40, 40)
    assert len(result.values) == 40
    torch.testing.assert_close(result.values, values.flip(0), rtol=1e-6, atol=1e-12)
    assert result.weights.sum().item() == pytest.approx(1.0)


def test_few_steps_bound_the_extremes_from_inside():
    values = torch.linspace(1.0, 10.0, 200, dtype=torch.float64)
    result = lanczos_spectrum(lambda v: values * v, 200, 15)
    assert 1.0 <= result.values[-1] <= result.values[0] <= 10.0
    for value, bound in zip(result.values, result.bounds, strict=True):
        assert (values - value).abs().min() <= bound + 1e-12
    assert result.values[0] == pytest.approx(10.0, rel=0.02)


def test_quadrature_reproduces_moments():
    values = torch.linspace(0.0, 3.0, 50, dtype=torch.float64)
    result = lanczos_spectrum(lambda v: values * v, 50, 8, seed=3)
    start = torch.randn(50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start = (start / start.norm()).square()
    for power in range(15):  # Gauss quadrature of 8 nodes is exact to degree 15
        expected = (start * values**power).sum().item()
        found = (result.weights * result.values**power).sum().item()
        assert found == pytest.approx(expected, rel=1e-9)


def test_exhausted_krylov_space_stops_early():
    result = lanczos_spectrum(lambda v: 2.0 * v, 30, 30)
    torch.testing.assert_close(result.values, torch.tensor([2.0], dtype=torch.float64))
    assert result.bounds.item() == 0.0


def test_lanczos_is_deterministic_in_its_seed():
    values = torch.linspace(1.0, 2.0, 60, dtype=torch.float64)
    first, again, other = (
        lanczos_spectrum(lambda v: values * v, 60, 5, seed=s).values for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=10), st.floats(0.1, 100.0))
def test_condition_number_ignores_scale_and_order(values, scale):
    eigenvalues = torch.tensor(values, dtype=torch.float64)
    kappa = condition_number(eigenvalues, 0.0)
    assert kappa == pytest.approx(max(values) / min(values))
    assert condition_number(scale * eigenvalues.flip(0), 0.0) == pytest.approx(kappa)


def test_cutoff_decides_what_is_kept():
    eigenvalues = torch.tensor([1.0, 1e-3, 1e-9, 0.0], dtype=torch.float64)
    assert rank_kept(eigenvalues, 1e-6) == 2
    assert condition_number(eigenvalues, 1e-6) == pytest.approx(1e3)
    assert condition_number(eigenvalues, 1e-10) == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gram_eigenvalues(torch.zeros(2, 3), 1), "NC × NC"),
        (lambda: gram_eigenvalues(torch.eye(3), 0), "samples is 0"),
        (lambda: gram_eigenvalues(torch.full((2, 2), float("nan")), 1), "NaN"),
        (lambda: condition_number(torch.zeros(3)), "needs a positive one"),
        (lambda: condition_number(torch.ones(3), 1.0), "cutoff is 1.0"),
        (lambda: lanczos_spectrum(lambda v: v, 3, 0), "steps is 0"),
        (lambda: lanczos_spectrum(lambda v: v * float("nan"), 3, 2), "step 1 is not finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
