import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_problems import make_problem, retrain, without

from lqf.influence import (
    DualRidge,
    head_gram,
    head_leverage,
    leave_one_out,
    leave_one_out_error,
    leave_one_out_outputs,
    leave_one_out_residuals,
    leverage_blocks,
)

SHAPES = [(12, 3, 20), (9, 4, 100), (30, 2, 15), (8, 1, 30)]  # P < NC and P > NC


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("relative", "rtol"), [(1.0, 1e-8), (1e-3, 1e-8), (1e-6, 1e-8), (1e-9, 1e-6)]
)
def test_residuals_equal_retraining(shape, relative, rtol):
    p = make_problem(*shape)
    mu = relative * torch.linalg.eigvalsh(p.gram)[-1].item()
    found = leave_one_out_residuals(p.gram, p.target, mu)
    for i in range(shape[0]):
        keep = without(shape[0], i)
        delta = retrain(p.jacobian[keep], p.target[keep], mu)
        expected = p.target[i] - p.jacobian[i] @ delta
        torch.testing.assert_close(
            found[i], expected, rtol=rtol, atol=rtol * expected.norm().item()
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_leverage_is_the_primal_hat_block(shape):
    p = make_problem(*shape)
    mu, P = 0.3, shape[2]
    rows = p.jacobian.flatten(0, 1)
    A = rows.T @ rows + mu * torch.eye(P, dtype=rows.dtype)
    expected = p.jacobian @ torch.linalg.solve(A, p.jacobian.transpose(1, 2))
    found = leverage_blocks(p.gram, p.target, mu)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    eigenvalues = torch.linalg.eigvalsh(found)
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() < 1


def test_primal_form_of_the_residuals():
    p = make_problem(12, 3, 20)
    solution = DualRidge(p.gram, p.target, 0.3)
    delta = retrain(p.jacobian, p.target, 0.3)
    r = p.target - p.jacobian @ delta
    torch.testing.assert_close(solution.residuals(), r)
    eye = torch.eye(3, dtype=r.dtype)
    expected = torch.linalg.solve(eye - solution.leverage(), r)  # L2
    torch.testing.assert_close(solution.leave_one_out(), expected)
    torch.testing.assert_close(solution.predict(p.cross_gram), p.evaluation @ delta)


def test_outputs_and_error():
    p = make_problem(20, 3, 6)
    base = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = (p.target + base).argmax(1)
    mu, wrong = 0.5, 0
    outputs = leave_one_out_outputs(p.gram, p.target, mu, base)
    torch.testing.assert_close(outputs - base, leave_one_out_outputs(p.gram, p.target, mu))
    for i in range(20):
        keep = without(20, i)
        f = base[i] + p.jacobian[i] @ retrain(p.jacobian[keep], p.target[keep], mu)
        torch.testing.assert_close(outputs[i], f)
        wrong += int(f.argmax() != labels[i])
    assert 0 < wrong < 20
    error = leave_one_out_error(p.gram, p.target, mu, base, labels)
    assert error == pytest.approx(100 * wrong / 20)
    whole = leave_one_out(DualRidge(p.gram, p.target, mu), base, labels)
    torch.testing.assert_close(whole.outputs, outputs)
    assert whole.error == error
    assert leave_one_out(DualRidge(p.gram, p.target, mu), base).error is None


@pytest.mark.parametrize("F", [3, 25])
def test_head_needs_one_kernel_and_scalar_leverage(F):
    N, C, mu = 14, 4, 0.2
    g = torch.Generator().manual_seed(2)
    features = torch.randn(N, F, generator=g, dtype=torch.float64)
    target = torch.randn(N, C, generator=g, dtype=torch.float64)
    shared = head_gram(features)
    full = torch.kron(shared, torch.eye(C, dtype=torch.float64))
    torch.testing.assert_close(
        leave_one_out_residuals(shared, target, mu), leave_one_out_residuals(full, target, mu)
    )
    h = head_leverage(features, mu)
    torch.testing.assert_close(leverage_blocks(shared, target, mu)[:, 0, 0], h)
    blocks = leverage_blocks(full, target, mu)
    torch.testing.assert_close(blocks, h[:, None, None] * torch.eye(C, dtype=torch.float64))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 40), st.integers(0, 1000))
def test_sum_of_scalars_for_one_sample_split_over_outputs(N, C, P, seed):
    # With C independent outputs (block-diagonal J) the C-output problem is C scalar ones.
    p = make_problem(N, 1, P, seed=seed)
    kron = torch.kron(p.gram, torch.eye(C, dtype=torch.float64))
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(N, C, generator=g, dtype=torch.float64)
    whole = leave_one_out_residuals(kron, target, 0.1)
    parts = [leave_one_out_residuals(p.gram, target[:, c : c + 1], 0.1) for c in range(C)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 40))
def test_order_of_samples_does_not_matter(order, P):
    p = make_problem(7, 2, P)
    moved = p.jacobian[order].flatten(0, 1)
    found = leave_one_out_residuals(moved @ moved.T, p.target[order], 0.1)
    torch.testing.assert_close(found, leave_one_out_residuals(p.gram, p.target, 0.1)[order])


def test_large_ridge_leaves_the_pretrained_outputs():
    p = make_problem(7, 2, 30)
    torch.testing.assert_close(
        leave_one_out_residuals(p.gram, p.target, 1e12), p.target, rtol=1e-9, atol=0
    )


def test_without_ridge_the_interpolating_model_is_left_out_exactly():
    p = make_problem(6, 2, 40)
    found = leave_one_out_residuals(p.gram, p.target, 0.0)
    for i in range(6):
        keep = without(6, i)
        rows = p.jacobian[keep].flatten(0, 1)
        delta = torch.linalg.lstsq(rows, p.target[keep].reshape(-1), driver="gelsd").solution
        torch.testing.assert_close(found[i], p.target[i] - p.jacobian[i] @ delta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda K, R: (K[:-1], R, 1.0), "gram has shape"),
        (lambda K, R: (K, R[:-1], 1.0), "gram has shape"),
        (lambda K, R: (K, R[:0], 1.0), "at least one sample"),
        (lambda K, R: (K, R, -1.0), "mu is -1.0"),
        (lambda K, R: (K, R, float("nan")), "mu is nan"),
        (lambda K, R: (K * float("nan"), R, 1.0), "gram contains NaN"),
        (lambda K, R: (K, R * float("inf"), 1.0), "target contains NaN"),
        (lambda K, R: (K.triu(), R, 1.0), "differs from its transpose"),
        (lambda K, R: (K - 2 * torch.eye(len(K)), R, 0.1), "not positive definite at mu = 0.1"),
    ],
)
def test_bad_input_is_refused(change, message):
    p = make_problem(6, 2, 30)
    with pytest.raises(ValueError, match=message):
        leave_one_out_residuals(*change(p.gram, p.target))


def test_half_precision_gram_is_solved_in_double():
    p = make_problem(6, 2, 30)
    found = leave_one_out_residuals(p.gram.float(), p.target.float(), 0.5)
    assert found.dtype == torch.float64
    expected = leave_one_out_residuals(p.gram, p.target, 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
