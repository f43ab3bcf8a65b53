import pytest
import torch

from lqf.solve import PrimalPath, RidgePath

N, C, K = 9, 3, 11


def problem():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(N, C, K, generator=g, dtype=torch.float64)
    return rows, torch.randn(N, C, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("mu", [1e-3, 0.5, 40.0])
def test_primal_and_dual_paths_agree(mu, monkeypatch):
    monkeypatch.setattr("lqf.solve.primal_path._CHUNK", 2 * C * K)  # several parts
    rows, target = problem()
    flat = rows.flatten(0, 1)
    primal, dual = PrimalPath(rows, target), RidgePath(flat @ flat.T, target)
    torch.testing.assert_close(primal.residuals(mu), dual.residuals(mu), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(primal.coefficients(mu), dual.coefficients(mu), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(primal.loo_residuals(mu), dual.loo_residuals(mu))
    assert primal.loo(mu) == pytest.approx(dual.loo(mu))
    assert primal.gcv(mu) == pytest.approx(dual.gcv(mu))


@pytest.mark.parametrize("criterion", ["loo", "gcv"])
def test_the_choice_is_that_of_the_dual_path(criterion):
    rows, target = problem()
    flat = rows.flatten(0, 1)
    mus = [1e-2, 1e-1, 1.0, 10.0, 100.0]
    found = PrimalPath(rows, target).choose(mus, criterion)
    expected = RidgePath(flat @ flat.T, target).choose(mus, criterion)
    assert found.mu == expected.mu
    torch.testing.assert_close(found.scores, expected.scores)


def test_what_cannot_be_decomposed_is_refused():
    rows, target = problem()
    with pytest.raises(ValueError, match="it must be 9 × 3 × k"):
        PrimalPath(rows[:-1], target)
    rows[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="rows has NaN"):
        PrimalPath(rows, target)
    with pytest.raises(ValueError, match="The Gram matrix is zero"):
        PrimalPath(torch.zeros(2, 2, 3), torch.ones(2, 2)).choose()
