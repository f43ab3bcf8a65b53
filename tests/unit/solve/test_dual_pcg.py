"""Conjugate gradients in the dual: the same minimiser, a true certificate, few iterations."""

import json
import logging
import math

import pytest
import torch
from linear_problems import make_problem
from tiny_networks import conv_network, images

from lqf.curvature import Coordinates, kronecker_factors
from lqf.linear import Linearized, NetworkJacobian
from lqf.solve import Diverged, KernelPreconditioner, Snapshot, solve_dual_pcg, solve_pcg

DECAY = 0.03


class Identity:
    """M = I, with a wrong idea of the norm."""

    def __init__(self, power=1.0):
        self.power = power

    def apply(self, vector):
        return vector

    def pulled_norm(self, vector):
        return float(vector.norm()) ** self.power


def kernel(problem, weight_decay=DECAY, k=None, **options):
    rows = problem.jacobian.matrix if k is None else problem.jacobian.matrix[:, :, :k]
    missing = float(problem.rows[:, rows.shape[2] :].square().sum(1).mean())
    mu = problem.jacobian.samples * weight_decay
    return KernelPreconditioner(rows, mu, missing, **options)


@pytest.mark.parametrize("preconditioner", ["none", "half", "whole"])
@pytest.mark.parametrize("P", [8, 45])
def test_the_minimiser_and_its_certificate(preconditioner, P) -> None:
    problem = make_problem(P=P)
    M = Identity() if preconditioner == "none" else kernel(problem)
    if preconditioner == "half":
        M = kernel(problem, k=P // 2)
    solution = solve_dual_pcg(
        problem.jacobian,
        problem.target,
        DECAY,
        preconditioner=M,
        tolerance=1e-10,
        max_passes=400,
    )
    expected = problem.minimiser(DECAY)
    torch.testing.assert_close(solution.delta, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(problem.jacobian.pull(solution.coefficients), solution.delta)
    gap = problem.hessian(DECAY) @ solution.delta - problem.right()
    true = float(gap.norm() / problem.right().norm())
    assert solution.converged
    assert solution.residual == pytest.approx(true, rel=0.2, abs=1e-13)
    left = problem.target - problem.jacobian.forward(solution.delta)
    assert solution.loss == pytest.approx(float(left.square().sum()) / 2 / len(left))
    if preconditioner == "whole":
        assert len(solution.history) == 1


def test_a_kernel_of_large_coordinates_needs_fewer_iterations_than_none() -> None:
    network, x = conv_network(), images(samples=12)
    linearized = Linearized(network)
    jacobian = NetworkJacobian(linearized, x, batch=5)
    target = torch.randn(jacobian.base.shape, generator=torch.Generator().manual_seed(1)).double()
    factors = kronecker_factors(network, x, linearized.layout.names)
    counts = []
    for size in (5, 20, 10**6):
        coordinates = Coordinates(factors, size, rest="dropped")
        rows = coordinates.rows(network, x)
        M = KernelPreconditioner(rows, 12 * 1e-3, coordinates.missing / rows.shape[1])
        solved = solve_dual_pcg(
            jacobian, target, 1e-3, preconditioner=M, tolerance=1e-8, max_passes=200
        )
        counts.append(len(solved.history))
    primal = solve_pcg(jacobian, target, 1e-3, tolerance=1e-10, max_passes=900)
    torch.testing.assert_close(solved.delta, primal.delta, rtol=1e-5, atol=1e-7)
    assert counts[0] > counts[1] > counts[2] == 1
    # What was not taken and what was is all there is.
    total = float(linearized.jacobian(x).square().sum()) / 12
    kept = float(coordinates.rows(network, x).square().sum()) / 12
    assert coordinates.missing == 0.0
    assert kept == pytest.approx(total)


def test_a_warm_start_costs_a_pass_and_a_half_and_ends_at_once() -> None:
    problem = make_problem()
    M = kernel(problem, k=6)
    cold = solve_dual_pcg(problem.jacobian, problem.target, DECAY, preconditioner=M, tolerance=1e-8)
    start = cold.coefficients.clone()
    warm = solve_dual_pcg(
        problem.jacobian, problem.target, DECAY, preconditioner=M, tolerance=1e-7, start=start
    )
    assert (len(warm.history), warm.passes) == (0, 2.0)
    torch.testing.assert_close(warm.delta, cold.delta)
    assert torch.equal(start, cold.coefficients)  # not written to


def test_passes_are_those_of_the_jacobian() -> None:
    problem = make_problem()
    calls = {"forward": 0, "pull": 0, "pass_": 0}
    counted = problem.jacobian

    class Counting:
        samples, outputs, size, base = (
            counted.samples,
            counted.outputs,
            counted.size,
            counted.base,
        )

        def __getattr__(self, name):
            calls[name] += 1
            return getattr(counted, name)

    solution = solve_dual_pcg(
        Counting(), problem.target, DECAY, preconditioner=kernel(problem, k=9), tolerance=1e-6
    )
    assert solution.passes == calls["forward"] / 2 + calls["pull"] / 2 + calls["pass_"]


def test_the_end_of_the_budget_is_announced_and_the_certificate_is_true(caplog) -> None:
    problem = make_problem()
    with caplog.at_level(logging.WARNING):
        solution = solve_dual_pcg(
            problem.jacobian,
            problem.target,
            1e-6,
            preconditioner=Identity(),
            tolerance=1e-9,
            max_passes=4,
        )
    gap = problem.hessian(1e-6) @ solution.delta - problem.right()
    assert solution.residual == pytest.approx(float(gap.norm() / problem.right().norm()))
    assert solution.passes <= 4
    assert not solution.converged
    assert "above the tolerance" in caplog.text


@pytest.mark.parametrize("power", [0.5, 1.5, 2.0])
def test_a_wrong_estimate_of_the_residual_is_found_out(power) -> None:
    problem = make_problem()
    solution = solve_dual_pcg(
        problem.jacobian,
        problem.target,
        DECAY,
        preconditioner=Identity(power),
        tolerance=1e-4,
        max_passes=300,
    )
    gap = problem.hessian(DECAY) @ solution.delta - problem.right()
    assert solution.converged
    assert float(gap.norm() / problem.right().norm()) <= 1e-4


def test_a_run_can_be_stopped_and_reports_progress() -> None:
    problem, told = make_problem(), []
    solution = solve_dual_pcg(
        problem.jacobian,
        problem.target,
        DECAY,
        preconditioner=Identity(),
        tolerance=1e-9,
        on_pass=lambda done, delta: done == 3,
        progress=lambda *a: told.append(a[0]),
    )
    assert len(solution.history) == 3
    assert told == [1, 2, 3]


def test_zero_and_nan_targets() -> None:
    problem = make_problem()
    zero = torch.zeros_like(problem.target)
    M = kernel(problem)
    solution = solve_dual_pcg(problem.jacobian, zero, DECAY, preconditioner=M)
    assert solution.converged
    assert not solution.delta.any()
    with pytest.raises(Diverged):
        solve_dual_pcg(problem.jacobian, zero * math.nan, DECAY, preconditioner=M)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda p: KernelPreconditioner(p.jacobian.matrix, 0.0), "mu is 0.0"),
        (lambda p: KernelPreconditioner(p.jacobian.matrix, 1.0, -1.0), "missing is -1.0"),
        (lambda p: KernelPreconditioner(p.jacobian.matrix * math.nan, 1.0), "NaN"),
        (
            lambda p: solve_dual_pcg(p.jacobian, p.target, 0.0, preconditioner=Identity()),
            "weight_decay is 0",
        ),
    ],
)
def test_bad_arguments_are_named(call, named) -> None:
    with pytest.raises(ValueError, match=named):
        call(make_problem())


class Kept:
    """Keeps the state after some iteration, as a process that is killed there."""

    def __init__(self, at, state=None):
        self.at, self.state, self.offered = at, state, 0

    def load(self):
        return self.state

    def offer(self, snapshot):
        self.offered += 1
        if self.offered == self.at:
            made = snapshot()
            tensors = {name: tensor.clone() for name, tensor in made.tensors.items()}
            self.state = Snapshot(tensors, json.loads(json.dumps(made.numbers)))


@pytest.mark.parametrize("at", [1, 4])
def test_a_run_goes_on_from_its_state_bit_by_bit(at) -> None:
    problem = make_problem()
    options = {"preconditioner": kernel(problem, k=5), "tolerance": 1e-10, "max_passes": 60}
    given = (problem.jacobian, problem.target, DECAY)
    kept = Kept(at)

    whole = solve_dual_pcg(*given, **options, resume=kept)
    resumed = solve_dual_pcg(*given, **options, resume=Kept(0, kept.state))

    assert kept.offered > at
    assert torch.equal(resumed.delta, whole.delta)
    assert (resumed.passes, resumed.residual) == (whole.passes, whole.residual)
    assert resumed.history == whole.history
