"""Every solver reaches the same minimiser, on a real network as on a matrix."""

import pytest
import torch
from linear_problems import make_problem
from torch import nn
from torch.nn import functional

from lqf.curvature import Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.linear import DenseJacobian, FeatureJacobian, Linearized, NetworkJacobian
from lqf.losses import SquaredLoss
from lqf.solve import RidgePath, solve_dual, solve_head, solve_pcg, solve_sgd, stable_rate

WEIGHT_DECAY = 1e-2


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 3, 3, stride=2), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(12, 3)
    ).double()
    images = torch.randn(8, 3, 6, 6, dtype=torch.float64)
    labels = torch.arange(8) % 3
    linearized = Linearized(network)
    jacobian = NetworkJacobian(linearized, images, batch=3)
    loss = SquaredLoss(15.0, 3)
    target = loss.targets(labels, torch.float64) - jacobian.base
    dense = DenseJacobian(linearized.jacobian(images), jacobian.base)
    rows = dense.matrix.flatten(0, 1)
    H = rows.T @ rows / 8 + WEIGHT_DECAY * torch.eye(rows.shape[1], dtype=torch.float64)
    minimiser = torch.linalg.solve(H, rows.T @ target.flatten() / 8)
    factors = kronecker_factors(network, images, linearized.layout.names)
    correction = eigenvalue_correction(network, images, factors)
    return {
        "jacobian": jacobian,
        "dense": dense,
        "loss": loss,
        "labels": labels,
        "target": target,
        "minimiser": minimiser,
        "none": None,
        "kfac": Preconditioner(factors, linearized.layout, WEIGHT_DECAY),
        "pi": Preconditioner(factors, linearized.layout, WEIGHT_DECAY, variant="pi"),
        "ekfac": Preconditioner(factors, linearized.layout, WEIGHT_DECAY, correction),
    }


def objective(task, delta):
    outputs = task["dense"].base + task["dense"].forward(delta)
    loss = task["loss"].value(outputs, task["labels"])
    return float(loss + WEIGHT_DECAY / 2 * delta.square().sum())


@pytest.mark.parametrize("kind", ["none", "kfac", "pi", "ekfac"])
@pytest.mark.parametrize("representation", ["jacobian", "dense"])
def test_conjugate_gradients(task, representation, kind):
    solution = solve_pcg(
        task[representation],
        task["target"],
        WEIGHT_DECAY,
        preconditioner=task[kind],
        tolerance=1e-11,
        max_passes=200,
    )
    assert solution.converged
    torch.testing.assert_close(solution.delta, task["minimiser"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["none", "kfac", "pi", "ekfac"])
def test_gradient_descent_with_its_natural_rate(task, kind):
    preconditioner = task[kind]
    rate = stable_rate(task["dense"], WEIGHT_DECAY, preconditioner, iterations=100)
    solution = solve_sgd(
        task["dense"],
        task["loss"],
        task["labels"],
        weight_decay=WEIGHT_DECAY,
        rate=rate,
        batch=8,
        epochs=3000,
        milestones=(),
        preconditioner=preconditioner,
    )
    torch.testing.assert_close(solution.delta, task["minimiser"], rtol=1e-6, atol=1e-6)


def test_stochastic_gradient_descent_on_the_network_approaches_it(task):
    rate = stable_rate(task["dense"], WEIGHT_DECAY, task["kfac"], batch=3)
    solution = solve_sgd(
        task["jacobian"],
        task["loss"],
        task["labels"],
        weight_decay=WEIGHT_DECAY,
        rate=rate,
        batch=3,
        epochs=150,
        preconditioner=task["kfac"],
    )
    excess = objective(task, solution.delta) - objective(task, task["minimiser"])
    before = objective(task, torch.zeros_like(solution.delta)) - objective(task, task["minimiser"])
    assert 0 <= excess < 0.02 * before


def test_the_dual_and_the_ridge_path(task):
    gram, mu = task["dense"].gram(), 8 * WEIGHT_DECAY
    for coefficients in (
        solve_dual(gram, task["target"], mu),
        RidgePath(gram, task["target"]).coefficients(mu),
    ):
        delta = task["jacobian"].pull(coefficients)
        torch.testing.assert_close(delta, task["minimiser"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("N", "F"), [(9, 4), (5, 12)])
def test_heads(N, F):
    generator = torch.Generator().manual_seed(N)
    features = torch.randn(N, F, generator=generator, dtype=torch.float64)
    base = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(N) % 3
    loss = SquaredLoss(15.0, 3)
    target = loss.targets(labels, torch.float64) - base
    jacobian = FeatureJacobian(features, base)
    weight, bias = solve_head(features, target, N * WEIGHT_DECAY)
    closed = torch.cat([weight.flatten(), bias])
    iterative = solve_pcg(jacobian, target, WEIGHT_DECAY, tolerance=1e-11, max_passes=200).delta
    torch.testing.assert_close(iterative, closed, rtol=1e-8, atol=1e-8)
    homogeneous = torch.cat([features, torch.ones(N, 1, dtype=torch.float64)], 1)
    shared = RidgePath(homogeneous @ homogeneous.T, target).coefficients(N * WEIGHT_DECAY)
    torch.testing.assert_close(jacobian.pull(shared), closed, rtol=1e-8, atol=1e-8)


def test_a_head_needs_one_iteration_with_kfac():
    # For a linear head the Kronecker product is the Gauss–Newton matrix, so P is the inverse.
    torch.manual_seed(1)
    head = nn.Linear(6, 3).double()
    features = torch.randn(20, 6, dtype=torch.float64)
    linearized = Linearized(head)
    jacobian = NetworkJacobian(linearized, features)
    factors = kronecker_factors(head, features)
    target = 15.0 * functional.one_hot(torch.arange(20) % 3) - jacobian.base
    solution = solve_pcg(
        jacobian,
        target,
        1e-3,
        preconditioner=Preconditioner(factors, linearized.layout, 1e-3),
        tolerance=1e-10,
    )
    assert len(solution.history) == 1
    assert solution.converged


@pytest.mark.parametrize("scale", [0.0, 2.0, -0.5])
def test_the_solution_is_linear_in_the_target(scale):
    problem = make_problem()
    one = solve_pcg(problem.jacobian, problem.target, 0.1, tolerance=1e-12, max_passes=99).delta
    other = solve_pcg(
        problem.jacobian, scale * problem.target, 0.1, tolerance=1e-12, max_passes=99
    ).delta
    torch.testing.assert_close(other, scale * one, rtol=1e-9, atol=1e-10)


def test_an_infinite_ridge_stays_at_the_pretrained_weights():
    problem = make_problem()
    for weight_decay in (1e6, 1e9):
        delta = solve_pcg(problem.jacobian, problem.target, weight_decay).delta
        assert float(delta.norm()) <= float(problem.right().norm()) / weight_decay * (1 + 1e-9)
