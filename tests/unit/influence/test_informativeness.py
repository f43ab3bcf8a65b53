import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_problems import make_problem, retrain, without

from lqf.influence import (
    DualRidge,
    eq8_effect,
    fsi_eq8,
    functional_sample_information,
    head_gram,
    influence,
)
from lqf.influence import informativeness as module

SHAPES = [(12, 3, 20), (9, 4, 100), (30, 2, 15), (8, 1, 30)]


def _retrained(p, mu):
    """``f(x_t) − f₋ᵢ(x_t)`` by retraining, M × N × C."""
    N = len(p.jacobian)
    whole = retrain(p.jacobian, p.target, mu)
    parts = [retrain(p.jacobian[k], p.target[k], mu) for k in (without(N, i) for i in range(N))]
    return torch.stack([p.evaluation @ (whole - part) for part in parts], 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("relative", "rtol"), [(1.0, 1e-8), (1e-3, 1e-8), (1e-6, 1e-8), (1e-8, 1e-6)]
)
def test_influence_and_fsi_equal_retraining(shape, relative, rtol):
    p = make_problem(*shape)
    mu = relative * torch.linalg.eigvalsh(p.gram)[-1].item()
    expected = _retrained(p, mu)
    found = influence(DualRidge(p.gram, p.target, mu), p.cross_gram)
    atol = rtol * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    scores = functional_sample_information(p.gram, p.cross_gram, p.target, mu)
    information = expected.square().sum(2).mean(0)
    atol = rtol * information.max().item()
    torch.testing.assert_close(scores, information, rtol=10 * rtol, atol=atol)


def test_eq8_is_the_printed_formula_for_one_output():
    p = make_problem(9, 1, 30)
    N, mu = 9, 0.2
    g, g_t = p.jacobian[:, 0], p.evaluation[:, 0]
    F = g.T @ g / N + mu / N * torch.eye(30, dtype=g.dtype)
    e = (p.target[:, 0] - g @ retrain(p.jacobian, p.target, mu)) / N
    solved = torch.linalg.solve(F, g.T)
    alpha = (g * solved.T).sum(1)
    printed = (g_t @ solved) * e * (1 - alpha / (N - 1 + alpha))
    found = eq8_effect(DualRidge(p.gram, p.target, mu), p.cross_gram)[..., 0]
    torch.testing.assert_close(found, printed)
    scores = fsi_eq8(p.gram, p.cross_gram, p.target, mu)
    torch.testing.assert_close(scores, printed.square().mean(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_eq8_in_its_matrix_reading_is_exact_for_adding_a_sample(shape):
    # With F, λ and the residual of the other N−1 samples, the bracket gives the true change.
    p, mu, i = make_problem(*shape), 0.2, 4
    N, C, P = shape
    keep = without(N, i)
    rows = p.jacobian[keep].flatten(0, 1)
    F = (rows.T @ rows + mu * torch.eye(P, dtype=rows.dtype)) / (N - 1)
    delta = retrain(p.jacobian[keep], p.target[keep], mu)
    e = (p.target[i] - p.jacobian[i] @ delta) / (N - 1)
    solved = torch.linalg.solve(F, p.jacobian[i].T)
    alpha = p.jacobian[i] @ solved
    bracket = (N - 1) * torch.linalg.inv((N - 1) * torch.eye(C, dtype=e.dtype) + alpha)
    found = p.evaluation @ solved @ bracket @ e
    torch.testing.assert_close(found, _retrained(p, mu)[:, i], rtol=1e-8, atol=1e-10)


def test_eq8_as_printed_underestimates_removal():
    p = make_problem(12, 3, 200)
    ratio = fsi_eq8(p.gram, p.cross_gram, p.target, 0.1) / functional_sample_information(
        p.gram, p.cross_gram, p.target, 0.1
    )
    assert (ratio < 1).all()


def test_rank_agreement_of_eq8_is_reported_not_required(record_property):
    p = make_problem(40, 3, 300, M=20)
    exact = functional_sample_information(p.gram, p.cross_gram, p.target, 0.5)
    printed = fsi_eq8(p.gram, p.cross_gram, p.target, 0.5)
    ranks = torch.stack([v.argsort().argsort().double() for v in (exact, printed)])
    spearman = torch.corrcoef(ranks)[0, 1].item()
    record_property("spearman_eq8_exact", spearman)
    assert -1 <= spearman <= 1
    assert not torch.allclose(exact, printed, rtol=0.05)


def test_head_kernel_gives_the_scores_of_the_full_one():
    g = torch.Generator().manual_seed(3)
    features, others = (torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (11, 6))
    target = torch.randn(11, 3, generator=g, dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    k, across = head_gram(features), head_gram(others, features)
    for score in (functional_sample_information, fsi_eq8):
        small = score(k, across, target, 0.1)
        torch.testing.assert_close(
            small, score(torch.kron(k, eye), torch.kron(across, eye), target, 0.1)
        )


def test_blocks_of_inputs_do_not_change_the_scores(monkeypatch):
    p = make_problem(9, 2, 30, M=13)
    whole = functional_sample_information(p.gram, p.cross_gram, p.target, 0.1)
    monkeypatch.setattr(module, "_BYTES", 8 * 9 * 2 * 2 * 3)
    parts = functional_sample_information(p.gram, p.cross_gram, p.target, 0.1)
    torch.testing.assert_close(whole, parts)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(7)), st.permutations(range(4)), st.integers(1, 40))
def test_order_of_samples_and_inputs_does_not_matter(order, inputs, P):
    p = make_problem(7, 2, P, M=4)
    rows, tests = p.jacobian[order].flatten(0, 1), p.evaluation[inputs].flatten(0, 1)
    moved = functional_sample_information(rows @ rows.T, tests @ rows.T, p.target[order], 0.1)
    expected = functional_sample_information(p.gram, p.cross_gram, p.target, 0.1)
    torch.testing.assert_close(moved, expected[order])


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 50.0), st.integers(1, 40))
def test_scores_grow_with_the_square_of_the_targets(scale, P):
    p = make_problem(7, 2, P)
    once = functional_sample_information(p.gram, p.cross_gram, p.target, 0.1)
    scaled = functional_sample_information(p.gram, p.cross_gram, scale * p.target, 0.1)
    torch.testing.assert_close(scaled, scale**2 * once)


def test_large_ridge_makes_every_sample_uninformative():
    p = make_problem(7, 2, 30)
    small = functional_sample_information(p.gram, p.cross_gram, p.target, 1.0)
    scores = functional_sample_information(p.gram, p.cross_gram, p.target, 1e9)
    assert (scores < 1e-12 * small.max()).all()


def test_wrong_cross_gram_is_refused():
    p = make_problem(7, 2, 30)
    with pytest.raises(ValueError, match="cross_gram has shape"):
        functional_sample_information(p.gram, p.cross_gram.T, p.target, 0.1)
    with pytest.raises(ValueError, match="cross_gram contains NaN"):
        functional_sample_information(p.gram, p.cross_gram * float("nan"), p.target, 0.1)
