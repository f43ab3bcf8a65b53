"""Rows of J held layer by layer, in factors or formed, against the dense Jacobian in float64."""

import math

import pytest
import torch
from torch import nn

from lqf.linear import Linearized, RowPlan, sample_rows

C = 3


def seeded(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(*layers).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network


def convolutional(bias: bool = True) -> nn.Module:
    return seeded(
        nn.Conv2d(3, 6, 3, stride=2, bias=bias),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 5, 1, bias=bias),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, C, bias=bias),
    )


def images(n: int, size: int = 9) -> torch.Tensor:
    return torch.randn(n, 3, size, size, dtype=torch.float64, generator=torch.manual_seed(1))


@pytest.fixture(params=["factored", "formed", "chosen"])
def form(request, monkeypatch):
    if request.param != "chosen":
        work = -1 if request.param == "factored" else math.inf
        monkeypatch.setattr(sample_rows, "factored_work", lambda *_: work)
    return request.param


def agrees(plan: RowPlan, x: torch.Tensor, others: torch.Tensor) -> None:
    linearized = plan.linearized
    J, K = (linearized.jacobian(part) for part in (x, others))
    rows, more = plan.rows(x, batch=2), plan.rows(others)
    torch.testing.assert_close(rows.base, linearized.outputs(x))
    flat, other = J.flatten(0, 1), K.flatten(0, 1)
    torch.testing.assert_close(rows.product(), flat @ flat.T)
    torch.testing.assert_close(rows.product(more), flat @ other.T)
    torch.testing.assert_close(rows.own_products(), J @ J.mT)
    g = torch.Generator().manual_seed(2)
    delta = torch.randn(J.shape[2], generator=g, dtype=torch.float64)
    c = torch.randn(J.shape[:2], generator=g, dtype=torch.float64)
    torch.testing.assert_close(rows.forward(delta), J @ delta)
    torch.testing.assert_close(rows.pull(c), torch.einsum("ncp,nc->p", J, c))
    index = torch.tensor([3, 0])
    torch.testing.assert_close(
        rows[index].product(), rows.product(rows)[rows_of(index)][:, rows_of(index)]
    )


def rows_of(index: torch.Tensor) -> torch.Tensor:
    return (index[:, None] * C + torch.arange(C)).flatten()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "names", [None, ["1.weight", "3.weight", "5.weight", "5.bias", "8.weight"]]
)
def test_rows_of_convolutions_norms_and_a_head(form, bias, names) -> None:
    network = convolutional(bias)
    if names is not None:
        names = [n for n in names if n in dict(network.named_parameters())]
    plan = RowPlan(Linearized(network, names), images(1))
    assert any(place.factored for place in plan.places) or form != "factored"
    agrees(plan, images(5), images(3))


def test_samples_of_another_size_and_joined_ones(form) -> None:
    plan = RowPlan(Linearized(convolutional()), images(1))
    first, second = plan.rows(images(3)), plan.rows(images(2, 12))
    J = plan.linearized.jacobian(images(3)).flatten(0, 1)
    torch.testing.assert_close(
        first.product(second), J @ plan.linearized.jacobian(images(2, 12)).flatten(0, 1).T
    )
    both = plan.rows(images(3)[:2]).joined(plan.rows(images(3)[2:]))
    torch.testing.assert_close(both.product(), J @ J.T)
    assert len(both) == 3


@pytest.mark.parametrize(
    "network",
    [
        seeded(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4 * 49, C)),
        seeded(nn.Flatten(), *[nn.Linear(243, C)]),
    ],
    ids=["group norm", "linear alone"],
)
def test_networks_that_are_held_whole_or_have_one_layer(network) -> None:
    agrees(RowPlan(Linearized(network), images(1)), images(5), images(2))


def test_tokens_are_positions(form) -> None:
    network = seeded(
        nn.Unflatten(1, (1, 3)), nn.Flatten(3), nn.Flatten(1, 2), nn.Linear(81, 7), nn.Tanh(),
        nn.Linear(7, 4), nn.Flatten(), nn.Linear(12, C),
    )  # fmt: skip
    agrees(RowPlan(Linearized(network), images(1)), images(4), images(3))


def test_late_layers_with_few_positions_are_held_in_factors() -> None:
    network = seeded(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Conv2d(4, 64, 2), nn.Flatten(), nn.Linear(64, C)
    )  # fmt: skip
    plan = RowPlan(Linearized(network), images(1))
    assert [place.factored for place in plan.places] == [False, True, True]
    size = sum(p.numel() for p in network.parameters())
    assert plan.numbers < C * size


def test_float32_rows_give_a_kernel_with_float64_sums() -> None:
    network = convolutional()
    exact = RowPlan(Linearized(network), images(1)).rows(images(5)).product()
    plan = RowPlan(Linearized(network.float()), images(1).float())
    found = plan.rows(images(5).float()).product()
    assert found.dtype == torch.float64
    assert (found - exact).norm() < 1e-6 * exact.norm()
