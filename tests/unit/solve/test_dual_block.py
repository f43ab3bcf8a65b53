"""Several right-hand sides together: the solutions of each alone, certified."""

import logging

import pytest
import torch
from linear_problems import make_problem
from tiny_networks import conv_network, images

from lqf.linear import Linearized, NetworkJacobian
from lqf.solve import KernelPreconditioner, solve_dual_block, solve_dual_pcg

DECAY, K = 0.03, 4


def posed(P=45, k=10):
    problem = make_problem(P=P)
    generator = torch.Generator().manual_seed(3)
    targets = torch.randn(K, *problem.target.shape, generator=generator, dtype=torch.float64)
    mu = problem.jacobian.samples * DECAY
    return problem, targets, mu, KernelPreconditioner(problem.jacobian.matrix[:, :, :k], mu, 0.5)


@pytest.mark.parametrize("P", [8, 45])
def test_against_dense(P):
    problem, targets, mu, M = posed(P)
    targets[1] = 0.0
    found = solve_dual_block(
        problem.jacobian, targets, DECAY, preconditioner=M, tolerance=1e-11, max_passes=300
    )
    kernel = problem.rows @ problem.rows.T
    kernel += mu * torch.eye(len(kernel), dtype=kernel.dtype)
    expected = torch.linalg.solve(kernel, targets.flatten(1).T).T.reshape(targets.shape)
    torch.testing.assert_close(found.coefficients, expected, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.delta, expected.flatten(1) @ problem.rows)
    assert found.converged.all()
    gap = targets.flatten(1) - found.coefficients.flatten(1) @ kernel
    true = gap.norm(dim=1) / targets.flatten(1).norm(dim=1).clamp(min=1e-300)
    torch.testing.assert_close(found.residuals, true, rtol=0.5, atol=1e-14)


def test_passes_are_those_of_the_hardest_alone():
    problem, targets, _, M = posed()
    options = {"preconditioner": M, "tolerance": 1e-8, "max_passes": 200}
    together = solve_dual_block(problem.jacobian, targets, DECAY, **options)
    alone = [solve_dual_block(problem.jacobian, t[None], DECAY, **options).passes for t in targets]
    assert together.passes == max(alone)


def test_a_network():
    network = conv_network().double()
    pictures = images(6).double()
    jacobian = NetworkJacobian(Linearized(network), pictures, batch=4)
    targets = torch.randn(3, *jacobian.base.shape, dtype=torch.float64)
    rows = jacobian.linearized.jacobian(pictures)
    options = {"preconditioner": KernelPreconditioner(rows, 6 * DECAY), "tolerance": 1e-9}
    together = solve_dual_block(jacobian, targets, DECAY, **options)
    for target, a in zip(targets, together.coefficients, strict=True):
        alone = solve_dual_pcg(jacobian, target, DECAY, **options)
        torch.testing.assert_close(a, alone.coefficients, rtol=1e-5, atol=1e-7)


def test_a_budget_that_ends_is_announced(caplog):
    problem, targets, _, M = posed(k=2)
    with caplog.at_level(logging.WARNING):
        found = solve_dual_block(
            problem.jacobian, targets, DECAY, preconditioner=M, tolerance=1e-10, max_passes=4
        )
    assert not found.converged.any()
    assert found.passes <= 4
    assert "4 of 4 right-hand sides" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(3, 2)}, "targets has shape"),
        ({"weight_decay": 0.0}, "weight_decay is 0.0"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"max_passes": 1}, "max_passes is 1"),
    ],
)
def test_what_is_refused(change, message):
    problem, targets, _, M = posed()
    given = {"targets": targets, "weight_decay": DECAY, "preconditioner": M, **change}
    with pytest.raises(ValueError, match=message):
        solve_dual_block(problem.jacobian, **given)
