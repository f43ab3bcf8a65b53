import math

import pytest
import torch
from linear_problems import make_problem

from lqf.solve import solve_dual, solve_head


@pytest.mark.parametrize(("N", "F"), [(12, 4), (5, 9), (5, 5)])
@pytest.mark.parametrize("mu", [1e-6, 1.0, 1e6])
def test_the_head_is_a_stationary_point_of_its_objective(N, F, mu):
    generator = torch.Generator().manual_seed(N)
    features = torch.randn(N, F, generator=generator, dtype=torch.float64)
    target = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    weight, bias = (part.requires_grad_() for part in solve_head(features, target, mu))
    error = (target - features @ weight.T - bias).square().sum()
    (error + mu * (weight.square().sum() + bias.square().sum())).backward()
    scale = float((features.T @ target).norm()) + 1
    assert float(weight.grad.norm()) < 1e-8 * scale
    assert float(bias.grad.norm()) < 1e-8 * scale


def test_without_a_ridge_the_head_interpolates_with_the_least_norm():
    features = torch.randn(5, 9, dtype=torch.float64)
    target = torch.randn(5, 2, dtype=torch.float64)
    weight, bias = solve_head(features, target, 0.0)
    torch.testing.assert_close(features @ weight.T + bias, target)
    other, _ = solve_head(features, target, 1e-10)
    torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mu", [1e-6, 0.3, 10.0])
def test_the_dual_equals_the_primal(mu):
    problem = make_problem()
    delta = problem.jacobian.pull(solve_dual(problem.jacobian.gram(), problem.target, mu))
    expected = problem.minimiser(mu / problem.jacobian.samples)
    torch.testing.assert_close(delta, expected, rtol=1e-6, atol=1e-6)


def test_the_dual_without_a_ridge_has_the_least_norm():
    problem = make_problem(N=4, P=30)
    delta = problem.jacobian.pull(solve_dual(problem.jacobian.gram(), problem.target, 0.0))
    expected = torch.linalg.pinv(problem.rows) @ problem.target.flatten()
    torch.testing.assert_close(delta, expected, rtol=1e-8, atol=1e-8)


def test_a_ridge_below_the_rounding_of_the_gram_matrix_is_survived():
    problem = make_problem(N=12, P=3)
    gram = 1e8 * problem.jacobian.gram()
    coefficients = solve_dual(gram, problem.target, 1e-12)
    assert bool(torch.isfinite(coefficients).all())


def test_the_dtype_of_the_target_is_kept():
    problem = make_problem()
    gram, target = problem.jacobian.gram().float(), problem.target.float()
    assert solve_dual(gram, target, 0.1).dtype == torch.float32
    assert solve_head(torch.randn(10, 4), target, 0.1)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("gram", "target", "mu", "message"),
    [
        (torch.eye(6), torch.zeros(2, 3), -1.0, "mu is -1.0"),
        (torch.eye(6), torch.zeros(2, 3), math.nan, "mu is nan"),
        (torch.eye(5), torch.zeros(2, 3), 1.0, r"gram has shape \(5, 5\)"),
        (torch.full((6, 6), math.inf), torch.zeros(2, 3), 1.0, "gram has NaN"),
        (torch.eye(6), torch.full((2, 3), math.nan), 1.0, "target has NaN"),
    ],
)
def test_bad_arguments_of_the_dual_are_named(gram, target, mu, message):
    with pytest.raises(ValueError, match=message):
        solve_dual(gram, target, mu)


def test_bad_arguments_of_the_head_are_named():
    with pytest.raises(ValueError, match=r"features has shape \(4, 2\)"):
        solve_head(torch.zeros(4, 2), torch.zeros(3, 1), 1.0)
    with pytest.raises(ValueError, match="features has NaN"):
        solve_head(torch.full((3, 2), math.nan), torch.zeros(3, 1), 1.0)
