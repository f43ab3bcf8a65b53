import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_problems import Matrix, make_problem, positive_definite

from lqf.linear import DenseJacobian
from lqf.solve import Diverged, solve_pcg


def residual(problem, delta, weight_decay):
    right = problem.right()
    return float((problem.hessian(weight_decay) @ delta - right).norm() / right.norm())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 3), st.integers(1, 30)),
    weight_decay=st.sampled_from([1e-3, 0.1, 10.0]),
    preconditioned=st.booleans(),
)
def test_the_minimiser_and_its_certificate(seed, shape, weight_decay, preconditioned):
    problem = make_problem(*shape, seed=seed)
    size = problem.jacobian.size
    P = Matrix(positive_definite(size, seed)) if preconditioned else None
    solution = solve_pcg(
        problem.jacobian,
        problem.target,
        weight_decay,
        preconditioner=P,
        tolerance=1e-9,
        max_passes=400,
    )
    assert solution.converged
    assert solution.residual == pytest.approx(
        residual(problem, solution.delta, weight_decay), rel=1e-3, abs=1e-13
    )
    # What the certificate promises: the smallest eigenvalue of the Hessian is at least wd.
    promised = solution.residual * float(problem.right().norm()) / weight_decay
    error = float((solution.delta - problem.minimiser(weight_decay)).norm())
    assert error <= 1.01 * promised + 1e-9


def test_a_warm_start_ends_where_a_cold_one_does():
    problem = make_problem()
    cold = solve_pcg(problem.jacobian, problem.target, 0.1, tolerance=1e-12, max_passes=99)
    start = cold.delta + 0.01 * torch.randn_like(cold.delta)
    kept = start.clone()
    warm = solve_pcg(
        problem.jacobian, problem.target, 0.1, tolerance=1e-12, max_passes=99, start=start
    )
    torch.testing.assert_close(warm.delta, cold.delta, rtol=1e-9, atol=1e-9)
    assert torch.equal(start, kept)


def test_a_start_at_the_solution_needs_no_iteration():
    problem = make_problem()
    solution = solve_pcg(
        problem.jacobian, problem.target, 0.1, start=problem.minimiser(0.1), tolerance=1e-8
    )
    assert solution.history == []
    assert solution.converged
    assert solution.passes == 1.5


def test_the_exact_inverse_needs_one_iteration():
    problem = make_problem()
    inverse = Matrix(torch.linalg.inv(problem.hessian(0.1)))
    solution = solve_pcg(
        problem.jacobian, problem.target, 0.1, preconditioner=inverse, tolerance=1e-9
    )
    assert len(solution.history) == 1
    # right-hand side, one iteration, certificate
    assert solution.passes == 2.5


def test_the_end_of_the_budget_is_announced_and_the_certificate_is_true(caplog):
    problem = make_problem(P=60, N=40)
    solution = solve_pcg(problem.jacobian, problem.target, 1e-3, tolerance=1e-10, max_passes=5)
    assert not solution.converged
    assert solution.passes <= 5
    assert "raise max_passes" in caplog.text
    assert solution.residual == pytest.approx(residual(problem, solution.delta, 1e-3), rel=1e-9)


def test_a_solution_within_the_budget_is_not_announced(caplog):
    problem = make_problem()
    solve_pcg(problem.jacobian, problem.target, 0.1)
    assert caplog.text == ""


def test_loss_and_history():
    problem = make_problem()
    solution = solve_pcg(problem.jacobian, problem.target, 0.1, tolerance=1e-10, max_passes=99)
    outputs = problem.jacobian.base + problem.jacobian.forward(solution.delta)
    assert solution.loss == pytest.approx(float(problem.loss.value(outputs, problem.labels)))
    objectives = []

    def keep(_, delta):
        outputs = problem.jacobian.base + problem.jacobian.forward(delta)
        value = problem.loss.value(outputs, problem.labels) + 0.05 * delta.square().sum()
        objectives.append(float(value))

    solve_pcg(problem.jacobian, problem.target, 0.1, tolerance=1e-10, max_passes=99, on_pass=keep)
    assert objectives == sorted(objectives, reverse=True)
    assert [row["iteration"] for row in solution.history] == list(range(1, len(objectives) + 1))


def test_a_run_can_be_stopped():
    problem = make_problem()
    solution = solve_pcg(
        problem.jacobian,
        problem.target,
        0.1,
        tolerance=1e-12,
        on_pass=lambda iteration, _: iteration == 2,
    )
    assert len(solution.history) == 2
    assert solution.residual == pytest.approx(residual(problem, solution.delta, 0.1))


def test_float32_reaches_its_rounding_floor_and_says_so(caplog):
    problem = make_problem(N=30, P=40)
    single = DenseJacobian(problem.jacobian.matrix.float(), problem.jacobian.base.float())
    solution = solve_pcg(single, problem.target.float(), 1e-2, tolerance=1e-12, max_passes=500)
    assert not solution.converged
    assert solution.residual < 1e-5
    assert solution.passes < 500
    assert "above the tolerance" in caplog.text


def test_without_weight_decay_the_solution_has_the_least_norm():
    problem = make_problem(N=4, P=30)
    solution = solve_pcg(problem.jacobian, problem.target, 0.0, tolerance=1e-11, max_passes=99)
    expected = torch.linalg.pinv(problem.rows) @ problem.target.flatten()
    torch.testing.assert_close(solution.delta, expected, rtol=1e-8, atol=1e-8)


def test_a_target_of_zero_is_solved_by_zero():
    problem = make_problem()
    zero = torch.zeros_like(problem.target)
    solution = solve_pcg(problem.jacobian, zero, 0.1, start=torch.ones(20).double())
    assert solution.converged
    assert float(solution.delta.norm()) == 0.0


def test_a_nan_is_raised_as_diverged():
    problem = make_problem()
    target = problem.target
    target[0, 0] = math.nan
    with pytest.raises(Diverged, match=r"NaN, infinite .* in iteration 0"):
        solve_pcg(problem.jacobian, target, 0.1)
    broken = Matrix(torch.full((20, 20), math.nan, dtype=torch.float64))
    with pytest.raises(Diverged, match="iteration 1"):
        solve_pcg(problem.jacobian, problem.target, 0.1, preconditioner=broken)


def test_a_preconditioner_that_is_not_positive_definite_is_refused():
    problem = make_problem()
    with pytest.raises(ValueError, match="positive definite"):
        solve_pcg(
            problem.jacobian, problem.target, 0.1, preconditioner=Matrix(-torch.eye(20).double())
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"max_passes": 2}, "max_passes is 2"),
        ({"target": torch.zeros(10, 2)}, r"target has shape \(10, 2\)"),
        ({"start": torch.zeros(3)}, r"start has shape \(3,\)"),
        ({"start": torch.full((20,), math.inf)}, "start has NaN"),
    ],
)
def test_bad_arguments_are_named(change, message):
    problem = make_problem()
    arguments = {"target": problem.target, "weight_decay": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        solve_pcg(problem.jacobian, **arguments)


def test_progress_is_reported():
    problem, seen = make_problem(), []
    solve_pcg(problem.jacobian, problem.target, 0.1, progress=lambda *row: seen.append(row))
    assert [row[0] for row in seen] == list(range(1, len(seen) + 1))
    assert "residual" in seen[0][2]
