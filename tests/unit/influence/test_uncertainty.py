"""Predictive covariance and leverage, by three ways, equal the primal formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_problems import make_problem

from lqf.influence import (
    CompressedRidge,
    DualRidge,
    predictive_covariance,
    selected_covariance,
    selected_leverage,
)
from lqf.linear import DenseJacobian
from lqf.solve import KernelPreconditioner

N, C, M = 7, 3, 4


def primal(p, mu, rows):
    flat = p.jacobian.flatten(0, 1)
    A = flat.T @ flat + mu * torch.eye(flat.shape[1], dtype=flat.dtype)
    return rows @ torch.linalg.solve(A, rows.flatten(0, 1).T).T.reshape(rows.shape).mT


@given(
    P=st.sampled_from([6, 12, 40]), mu=st.sampled_from([1e-2, 1.0, 50.0]), seed=st.integers(0, 99)
)
@settings(max_examples=10, deadline=None)
def test_covariance_from_the_dual_and_from_rows(P, mu, seed):
    p = make_problem(N, C, P, M=M, seed=seed)
    expected = primal(p, mu, p.evaluation)
    own = p.evaluation @ p.evaluation.mT
    found = predictive_covariance(DualRidge(p.gram, p.target, mu), p.cross_gram, own)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    ridge = CompressedRidge(p.jacobian, mu)
    torch.testing.assert_close(ridge.covariance(p.evaluation), expected, rtol=1e-8, atol=1e-10)
    assert (torch.linalg.eigvalsh(ridge.leverage()) < 1).all()


@pytest.mark.parametrize("k", [10, 40])
def test_chosen_samples_by_iteration(k):
    p, mu = make_problem(N, C, 40, M=M), 0.7
    zeros = torch.zeros(N, C, dtype=torch.float64)
    train, test = DenseJacobian(p.jacobian, zeros), DenseJacobian(p.evaluation, zeros[:M])
    M_ = KernelPreconditioner(p.jacobian[:, :, :k], mu, 0.1)
    options = {"tolerance": 1e-11, "max_passes": 200}
    covariance = selected_covariance(train, test, mu / N, M_, **options)
    torch.testing.assert_close(covariance, primal(p, mu, p.evaluation))
    index = torch.tensor([4, 0])
    leverage = selected_leverage(train, index, mu / N, M_, **options)
    torch.testing.assert_close(leverage, DualRidge(p.gram, p.target, mu).leverage()[index])


def test_wrong_blocks_are_refused():
    p = make_problem(N, C, 40, M=M)
    with pytest.raises(ValueError, match="own has shape"):
        predictive_covariance(DualRidge(p.gram, p.target, 1.0), p.cross_gram, p.gram)
