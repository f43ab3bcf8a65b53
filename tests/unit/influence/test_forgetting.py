import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_problems import Problem, make_problem, retrain, without

from lqf.influence import (
    DualRidge,
    add,
    head_gram,
    influence,
    removal_effect,
    remove,
    removed_coefficients,
)

SHAPES = [(12, 3, 20), (9, 4, 100), (30, 2, 15)]


def _solution(p: Problem, mu: float) -> DualRidge:
    return DualRidge(p.gram, p.target, mu)


def _close(found, expected, rtol):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("relative", "rtol"), [(1.0, 1e-8), (1e-3, 1e-8), (1e-6, 1e-8), (1e-8, 1e-6)]
)
def test_group_removal_equals_retraining(shape, relative, rtol):
    p = make_problem(*shape)
    mu = relative * torch.linalg.eigvalsh(p.gram)[-1].item()
    solution, gone = _solution(p, mu), torch.tensor([5, 0, 3])
    keep = without(shape[0], 0, 3, 5)
    delta = retrain(p.jacobian[keep], p.target[keep], mu)
    before = retrain(p.jacobian, p.target, mu)
    change = removal_effect(solution, p.cross_gram, gone)
    _close(p.evaluation @ before - change, p.evaluation @ delta, rtol)
    a = removed_coefficients(solution, gone)
    assert (a[gone] == 0).all()
    _close(torch.einsum("nc,ncp->p", a, p.jacobian), delta, rtol)
    smaller = remove(solution, gone)
    _close(
        smaller.predict(p.cross_gram[:, smaller_rows(keep, shape[1])]), p.evaluation @ delta, rtol
    )
    fresh = DualRidge(smaller.gram, p.target[keep], mu)
    _close(smaller.leave_one_out(), fresh.leave_one_out(), 10 * rtol)


def smaller_rows(keep, C):
    return (keep[:, None] * C + torch.arange(C)).reshape(-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("relative", "rtol"), [(1.0, 1e-8), (1e-3, 1e-8), (1e-6, 1e-8), (1e-8, 1e-6)]
)
def test_addition_equals_retraining(shape, relative, rtol):
    N, C, _ = shape
    p = make_problem(*shape)
    mu = relative * torch.linalg.eigvalsh(p.gram)[-1].item()
    n = N - 4
    start = DualRidge(p.gram[: n * C, : n * C], p.target[:n], mu)
    grown = add(start, p.gram[n * C :, : n * C], p.gram[n * C :, n * C :], p.target[n:])
    delta = retrain(p.jacobian, p.target, mu)
    _close(grown.predict(p.cross_gram), p.evaluation @ delta, rtol)
    _close(grown.leave_one_out(), _solution(p, mu).leave_one_out(), 10 * rtol)
    assert start.samples == n


def test_head_kernel_adds_and_removes():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(10, 4, generator=g, dtype=torch.float64)
    target = torch.randn(10, 3, generator=g, dtype=torch.float64)
    k = head_gram(features)
    start = DualRidge(k[:7, :7], target[:7], 0.1)
    grown = add(start, k[7:, :7], k[7:, 7:], target[7:])
    torch.testing.assert_close(grown.coefficients, DualRidge(k, target, 0.1).coefficients)
    back = remove(grown, torch.tensor([7, 8, 9]))
    torch.testing.assert_close(back.coefficients, start.coefficients)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 8), min_size=2, max_size=6), st.integers(2, 60))
def test_removing_one_by_one_or_at_once_is_the_same(gone, P):
    p = make_problem(9, 2, P)
    at_once = remove(_solution(p, 0.05), torch.tensor(sorted(gone)))
    one_by_one = _solution(p, 0.05)
    for i in sorted(gone, reverse=True):
        one_by_one = remove(one_by_one, torch.tensor([i]))
    torch.testing.assert_close(one_by_one.coefficients, at_once.coefficients)
    torch.testing.assert_close(one_by_one.inverse, at_once.inverse)


def test_removing_one_sample_is_its_influence():
    p = make_problem(8, 3, 50)
    solution = _solution(p, 0.05)
    effects = influence(solution, p.cross_gram)
    for i in range(8):
        torch.testing.assert_close(
            effects[:, i], removal_effect(solution, p.cross_gram, torch.tensor([i]))
        )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([8]), "contains 8; the 8 samples have positions 0 to 7"),
        (torch.tensor([-1]), "contains -1"),
        (torch.tensor([1, 1]), "more than once"),
        (torch.tensor([], dtype=torch.int64), "names 0 of 8"),
        (torch.tensor([]), "names 0 of 8"),
        (torch.arange(8), "names 8 of 8"),
        (torch.tensor([0.5]), "integer"),
        (torch.tensor([True, False]), "integer"),
    ],
)
def test_bad_index_is_refused(index, message):
    with pytest.raises(ValueError, match=message):
        remove(_solution(make_problem(8, 2, 30), 0.1), index)


def test_bad_addition_is_refused():
    p = make_problem(6, 2, 30)
    start = _solution(p, 0.1)
    with pytest.raises(ValueError, match="cross_gram has shape"):
        add(start, p.cross_gram[:, :-1], p.gram[:4, :4], p.target[:2])
    with pytest.raises(ValueError, match="need the same rows"):
        add(start, p.cross_gram[:2], p.gram[:4, :4], p.target[:2])
    with pytest.raises(ValueError, match="NaN"):
        add(start, p.cross_gram[:4] * float("nan"), p.gram[:4, :4], p.target[:2])
