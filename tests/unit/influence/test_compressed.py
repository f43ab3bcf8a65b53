"""Influence in a few coordinates: exact with all of them, unbiased and close with some."""

import pytest
import torch
from tiny_networks import C, NormNetwork, TokenNetwork, conv_network, images, seeded
from torch import nn

from lqf.curvature import Coordinates, eigenvalue_correction, kronecker_factors
from lqf.influence import (
    CompressedRidge,
    DualRidge,
    functional_sample_information,
    influence,
    residual_probes,
)
from lqf.linear import Linearized

MU = 0.7
ALL = 10**6


def grouped_network() -> nn.Module:
    conv = nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2, padding_mode="reflect")
    return seeded(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), conv, nn.Flatten(), nn.Linear(96, C))
    )


NETWORKS = [
    conv_network,
    grouped_network,
    lambda: seeded(TokenNetwork()),
    lambda: seeded(NormNetwork()),
]


def factors_of(network, x):
    names = tuple(name for name, _ in network.named_parameters())
    return kronecker_factors(network, x, names)


def target_of(samples: int, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(samples, C, generator=generator, dtype=torch.float64)


def assert_as_the_dual(ridge, test, K, cross, target) -> None:
    """Every answer is that of the kernel."""
    dual = DualRidge(K, target, MU)
    r = dual.residuals()
    torch.testing.assert_close(ridge.leverage(), dual.leverage())
    torch.testing.assert_close(ridge.leave_one_out(r), dual.leave_one_out())
    torch.testing.assert_close(ridge.influence(test, r), influence(dual, cross))
    exact = functional_sample_information(K, cross, target, MU)
    torch.testing.assert_close(ridge.informativeness(test, r), exact)


@pytest.mark.parametrize("make", NETWORKS)
def test_with_all_coordinates_everything_is_exact(make) -> None:
    network, x, others = make(), images(), images(3, samples=4)
    coordinates = Coordinates(factors_of(network, x), ALL)
    linearized = Linearized(network)
    J, Jt = linearized.jacobian(x), linearized.jacobian(others)
    assert coordinates.size == linearized.layout.size
    rows, test = (coordinates.rows(network, z, batch=4) for z in (x, others))
    K, cross = J.flatten(0, 1) @ J.flatten(0, 1).T, Jt.flatten(0, 1) @ J.flatten(0, 1).T
    torch.testing.assert_close(rows.flatten(0, 1) @ rows.flatten(0, 1).T, K)
    target = target_of(len(x))
    ridge = CompressedRidge(rows, MU)
    assert_as_the_dual(ridge, test, K, cross, target)
    A = J.flatten(0, 1).T @ J.flatten(0, 1) + MU * torch.eye(linearized.layout.size)
    expected = Jt @ torch.linalg.solve(A, Jt.flatten(0, 1).T).T.reshape(Jt.shape).mT
    torch.testing.assert_close(ridge.covariance(test), expected)


def test_what_is_missing_is_on_the_diagonal_of_the_kernel() -> None:
    generator = torch.Generator().manual_seed(3)
    rows, test = (torch.randn(n, C, 8, generator=generator, dtype=torch.float64) for n in (6, 4))
    missing, target = 0.7, target_of(6)
    flat, size = rows.flatten(0, 1), 6 * C
    K = flat @ flat.T + missing * torch.eye(size, dtype=torch.float64)
    cross = test.flatten(0, 1) @ flat.T
    assert_as_the_dual(CompressedRidge(rows, MU, missing), test, K, cross, target)


def test_the_expected_kernel_is_the_kernel() -> None:
    network, x = conv_network(), images()
    factors = factors_of(network, x)
    rows = Linearized(network).jacobian(x).flatten(0, 1)
    K = rows @ rows.T
    total, single = torch.zeros_like(K), []
    for seed in range(40):
        coordinates = Coordinates(factors, 40, seed=seed)
        assert coordinates.size == 40
        part = coordinates.rows(network, x).flatten(0, 1)
        total += part @ part.T
        single.append(float((part @ part.T - K).norm() / K.norm()))
    assert float((total / 40 - K).norm() / K.norm()) < 3 * max(single) / 40**0.5


def test_corrected_eigenvalues_and_memory_at_hand(monkeypatch) -> None:
    network, x = conv_network(), images()
    factors = factors_of(network, x)
    values = eigenvalue_correction(network, x, factors)
    coordinates = Coordinates(factors, 60, eigenvalues=values)
    rows = coordinates.rows(network, x)
    assert rows.shape == (len(x), C, 60)
    monkeypatch.setattr("lqf.curvature.coordinates._CHUNK", 64)
    torch.testing.assert_close(coordinates.rows(network, x, batch=3), rows)
    assert not any(module._forward_hooks for module in network.modules())


def test_random_combinations_of_outputs_estimate_the_sum_over_outputs() -> None:
    network, x, others = conv_network(), images(), images(3, samples=4)
    coordinates = Coordinates(factors_of(network, x), ALL)
    ridge = CompressedRidge(coordinates.rows(network, x), MU)
    r = target_of(len(x))
    exact = ridge.informativeness(coordinates.rows(network, others), r)
    estimates = torch.stack(
        [
            ridge.informativeness(coordinates.rows(network, others, probes=4, seed=s), r)
            for s in range(64)
        ]
    )
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - exact).abs() < 4 * error).all()


def test_as_many_combinations_by_residual_as_outputs_are_exact() -> None:
    network, x, others = conv_network(), images(), images(3, samples=4)
    coordinates = Coordinates(factors_of(network, x), ALL)
    r = target_of(len(x))
    r[1] = 0.0
    whole = CompressedRidge(coordinates.rows(network, x), MU)
    V, own = residual_probes(r, C)
    few = CompressedRidge(coordinates.rows(network, x, probes=V, batch=3), MU)
    test = coordinates.rows(network, others)
    torch.testing.assert_close(few.informativeness(test, own), whole.informativeness(test, r))
    squares = whole.leave_one_out(r).square().sum(1)
    torch.testing.assert_close(few.leave_one_out(own).square().sum(1), squares)


def test_fewer_combinations_keep_the_residual_and_the_expected_kernel() -> None:
    network, x = conv_network(), images()
    coordinates = Coordinates(factors_of(network, x), ALL)
    J, r = coordinates.rows(network, x), target_of(len(x))
    normal = J.flatten(0, 1).T @ J.flatten(0, 1)
    total, apart = torch.zeros_like(normal), []
    for seed in range(60):
        V, own = residual_probes(r, 2, seed)
        rows = (V.mT @ J) if seed else coordinates.rows(network, x, probes=V)
        torch.testing.assert_close(rows, V.mT @ J)
        pulled = (rows.mT @ own[:, :, None])[:, :, 0]
        torch.testing.assert_close(pulled, (J.mT @ r[:, :, None])[:, :, 0])
        estimate = rows.flatten(0, 1).T @ rows.flatten(0, 1)
        total += estimate
        apart.append(float((estimate - normal).norm() / normal.norm()))
    assert min(apart) > 1e-3
    assert float((total / 60 - normal).norm() / normal.norm()) < 3 * max(apart) / 60**0.5


def test_a_part_of_the_parameters() -> None:
    network, x = conv_network(), images()
    names = ("2.weight", "5.bias")
    coordinates = Coordinates(kronecker_factors(network, x, names), ALL)
    J = Linearized(network, names).jacobian(x).flatten(0, 1)
    rows = coordinates.rows(network, x).flatten(0, 1)
    torch.testing.assert_close(rows @ rows.T, J @ J.T)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda f, rows: Coordinates(f, 0), "size is 0"),
        (lambda f, rows: Coordinates(f, 9, rest="kept"), "rest is 'kept'"),
        (lambda f, rows: CompressedRidge(rows, 0.0), "mu is 0.0"),
        (lambda f, rows: CompressedRidge(rows, 1.0, -1.0), "missing is -1.0"),
        (lambda f, rows: residual_probes(torch.ones(4, C), 1), "count is 1"),
        (lambda f, rows: residual_probes(torch.ones(4, C), C + 1), f"count is {C + 1}"),
        (
            lambda f, rows: Coordinates(f, 9).rows(
                conv_network(), images(), probes=torch.ones(2, C, 1)
            ),
            "probes has shape",
        ),
        (lambda f, rows: CompressedRidge(rows * float("nan"), 1.0), "NaN"),
    ],
)
def test_bad_arguments_are_named(call, named) -> None:
    network, x = conv_network(), images()
    with pytest.raises(ValueError, match=named):
        call(factors_of(network, x), torch.ones(2, C, 3))
