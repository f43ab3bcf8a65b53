import pytest
import torch
from ridge_problems import make_problem

from lqf.influence import (
    DualRidge,
    fsi_kfac,
    functional_sample_information,
    kfac_leave_one_out,
    kfac_leverage,
)
from lqf.influence.approximate import _groups
from lqf.linear import DenseJacobian, FeatureJacobian


class _Exact:
    """``(G + (μ/N) I)⁻¹`` of given rows, with every count of rows divided by ``samples``."""

    def __init__(self, rows, mu, samples):
        P = rows.shape[-1]
        flat = rows.reshape(-1, P)
        self._inverse = samples * torch.linalg.inv(flat.T @ flat + mu * torch.eye(P).double())

    def apply(self, vector):
        return vector @ self._inverse


def _setting(P=25, N=9, C=3, M=5):
    p = make_problem(N, C, P, M=M)
    zeros = torch.zeros(N, C, dtype=torch.float64)
    train = DenseJacobian(p.jacobian, zeros)
    return p, train, DenseJacobian(p.evaluation, zeros[:M])


@pytest.mark.parametrize("i", [0, 4])
def test_exact_with_the_inverse_of_the_other_samples(i):
    p, train, validation = _setting()
    mu = 0.3
    keep = torch.arange(9) != i
    solution = DualRidge(p.gram, p.target, mu)
    others = _Exact(p.jacobian[keep], mu, 9)
    scores = fsi_kfac(train, others, solution.residuals(), validation, probes=10**6)
    exact = functional_sample_information(p.gram, p.cross_gram, p.target, mu)
    torch.testing.assert_close(scores[i], exact[i])
    left_out = kfac_leave_one_out(train, others, solution.residuals())
    torch.testing.assert_close(left_out[i], solution.leave_one_out()[i])
    torch.testing.assert_close(kfac_leverage(train, others)[i], solution.leverage()[i])


def test_groups_cover_every_output_once():
    _, _, validation = _setting()
    for count in (1, 4, 5, 7, 15):
        seen = torch.zeros(5, 3)
        parts = list(_groups(validation, count, seed=1))
        assert len(parts) == count
        for index, cotangent in parts:
            seen[index] += cotangent.abs()
        assert (seen == 1).all()


def test_few_probes_estimate_the_score_without_bias():
    p, train, validation = _setting()
    r = DualRidge(p.gram, p.target, 0.3).residuals()
    P = _Exact(p.jacobian, 0.3, 9)
    exact = fsi_kfac(train, P, r, validation, probes=15)
    runs = torch.stack([fsi_kfac(train, P, r, validation, probes=3, seed=s) for s in range(400)])
    error = (runs.mean(0) - exact) / exact
    assert error.abs().max() < 5 * (2 / 3 / 400) ** 0.5
    assert not torch.equal(runs[0], runs[1])


def test_implicit_rows_give_the_leverage_of_dense_ones():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, generator=g, dtype=torch.float64)
    implicit = FeatureJacobian(features, torch.zeros(6, 2, dtype=torch.float64))
    units = torch.eye(2, dtype=torch.float64)
    rows = [[implicit.pull(u[None], torch.tensor([i])) for u in units] for i in range(6)]
    matrix = torch.stack([torch.stack(r) for r in rows])
    P = _Exact(matrix, 0.1, 6)
    dense = kfac_leverage(DenseJacobian(matrix, implicit.base), P)
    torch.testing.assert_close(kfac_leverage(implicit, P), dense)
    eigenvalues = torch.linalg.eigvalsh(dense)
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() < 1


def test_progress_counts_the_probes():
    p, train, validation = _setting()
    seen = []
    P = _Exact(p.jacobian, 0.3, 9)
    fsi_kfac(train, P, p.target, validation, probes=4, progress=lambda *a: seen.append(a[:2]))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bad_input_is_refused():
    p, train, validation = _setting()
    P = _Exact(p.jacobian, 0.3, 9)
    with pytest.raises(ValueError, match="probes is 0"):
        fsi_kfac(train, P, p.target, validation, probes=0)
    with pytest.raises(ValueError, match="residuals has shape"):
        fsi_kfac(train, P, p.target[:-1], validation)
