import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_problems import make_problem

from lqf.solve import RidgePath, solve_dual


def path_of(problem):
    return RidgePath(problem.jacobian.gram(), problem.target)


def retrained_residual(problem, i, mu):
    """R_i − J_iδ of the ridge solution of all other samples, by a dense solve."""
    keep = [k for k in range(problem.jacobian.samples) if k != i]
    rows = problem.jacobian.matrix[keep].flatten(0, 1)
    eye = torch.eye(rows.shape[1], dtype=torch.float64)
    delta = torch.linalg.solve(rows.T @ rows + mu * eye, rows.T @ problem.target[keep].flatten())
    return problem.target[i] - problem.jacobian.matrix[i] @ delta


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(2, 8), st.integers(1, 3), st.integers(1, 30)),
    mu=st.sampled_from([1e-2, 1.0, 50.0]),
)
def test_leave_one_out_is_retraining(seed, shape, mu):
    problem = make_problem(*shape, seed=seed)
    found = path_of(problem).loo_residuals(mu)
    for i in range(shape[0]):
        torch.testing.assert_close(
            found[i], retrained_residual(problem, i, mu), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("mu", [1e-3, 0.1, 7.0])
def test_every_point_of_the_path_is_a_dual_solution(mu):
    problem = make_problem()
    path = path_of(problem)
    expected = solve_dual(problem.jacobian.gram(), problem.target, mu)
    torch.testing.assert_close(path.coefficients(mu), expected, rtol=1e-8, atol=1e-9)
    fitted = problem.jacobian.forward(problem.jacobian.pull(expected))
    torch.testing.assert_close(path.residuals(mu), problem.target - fitted, rtol=1e-8, atol=1e-8)


def test_a_shared_kernel_is_one_block_for_all_outputs():
    problem = make_problem()
    features = problem.jacobian.matrix[:, 0]
    kernel = features @ features.T
    shared = RidgePath(kernel, problem.target)
    full = RidgePath(torch.kron(kernel, torch.eye(3, dtype=torch.float64)), problem.target)
    for mu in (0.01, 3.0):
        torch.testing.assert_close(shared.coefficients(mu), full.coefficients(mu))
        torch.testing.assert_close(shared.loo_residuals(mu), full.loo_residuals(mu))
        assert shared.gcv(mu) == pytest.approx(full.gcv(mu))


def test_generalised_cross_validation_by_its_definition():
    problem = make_problem()
    gram, mu = problem.jacobian.gram(), 2.0
    eye = torch.eye(len(gram), dtype=torch.float64)
    left = eye - gram @ torch.linalg.inv(gram + mu * eye)
    residual = left @ problem.target.flatten()
    mean_freedom = left.trace() / len(gram)
    expected = float(residual.square().sum() / problem.jacobian.samples / mean_freedom**2)
    assert path_of(problem).gcv(mu) == pytest.approx(expected)


@pytest.mark.parametrize("criterion", ["loo", "gcv"])
def test_the_choice_is_the_smallest_score(criterion):
    problem = make_problem(N=14, P=12)
    path = path_of(problem)
    mus = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    choice = path.choose(mus, criterion)
    scores = [getattr(path, criterion)(mu) for mu in mus]
    assert choice.mu == mus[scores.index(min(scores))]
    assert choice.scores.tolist() == pytest.approx(scores)
    assert choice.at_edge == (choice.mu in (0.01, 1000.0))


def test_the_default_choice_is_near_the_best_of_a_fine_grid():
    # Linear truth with noise: neither edge of the grid is right.
    generator = torch.Generator().manual_seed(0)
    problem = make_problem(N=40, C=2, P=60)
    truth = torch.randn(60, generator=generator, dtype=torch.float64)
    noise = 3 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    path = RidgePath(problem.jacobian.gram(), problem.jacobian.forward(truth) + noise)
    choice = path.choose()
    assert not choice.at_edge
    fine = min(path.loo(float(mu)) for mu in path.grid(400))
    assert path.loo(choice.mu) < 1.02 * fine


def test_scaling_the_target_does_not_move_the_choice():
    problem = make_problem(N=14, P=12)
    one = path_of(problem).choose()
    two = RidgePath(problem.jacobian.gram(), 7 * problem.target).choose()
    assert one.mu == two.mu


def test_limits_of_the_ridge():
    problem = make_problem(N=4, P=30)
    path = path_of(problem)
    torch.testing.assert_close(path.residuals(1e12), problem.target, rtol=1e-6, atol=1e-6)
    assert float(path.residuals(1e-10).norm()) < 1e-8 * float(problem.target.norm())
    torch.testing.assert_close(path.loo_residuals(1e12), problem.target, rtol=1e-6, atol=1e-6)


def test_the_order_of_the_samples_does_not_matter():
    problem = make_problem()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    rows = problem.jacobian.matrix[order].flatten(0, 1)
    other = RidgePath(rows @ rows.T, problem.target[order])
    torch.testing.assert_close(
        other.loo_residuals(0.5), path_of(problem).loo_residuals(0.5)[order], rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("mu", [0.0, -1.0, math.nan, math.inf])
def test_a_ridge_that_is_not_positive_is_refused(mu):
    with pytest.raises(ValueError, match="mu is"):
        path_of(make_problem()).loo_residuals(mu)


def test_bad_arguments_are_named():
    problem = make_problem()
    path = path_of(problem)
    with pytest.raises(ValueError, match="criterion is 'aic'"):
        path.choose([1.0], "aic")
    with pytest.raises(ValueError, match="mus has shape"):
        path.choose([])
    with pytest.raises(ValueError, match="gram has NaN"):
        RidgePath(torch.full((30, 30), math.nan), problem.target)
    with pytest.raises(ValueError, match="gram has shape"):
        RidgePath(torch.eye(7), problem.target)
    with pytest.raises(ValueError, match="Gram matrix is zero"):
        RidgePath(torch.zeros(30, 30), problem.target).choose()


def test_the_scores_of_a_choice_are_those_of_each_constant():
    problem = make_problem()
    path = path_of(problem)
    choice = path.choose()
    expected = [path.loo(float(mu)) for mu in choice.mus]
    torch.testing.assert_close(choice.scores, torch.tensor(expected, dtype=torch.float64))
    with pytest.raises(ValueError, match="finite μ > 0"):
        path.choose([1.0, -1.0])
