"""Several tangents or cotangents at a time are the same as one after the other."""

import pytest
import torch
from dense_networks import dense, random, seeded
from test_walk import FUNCTIONS, LAYERS, Function, between
from torch import Tensor, nn

from lqf.jacobian import DenseJacobian, FeatureJacobian, Linearized, NetworkJacobian

K = 3


def prepared(network: nn.Module) -> tuple[Linearized, Tensor, Tensor]:
    images = random(2, 3, 6, 6)
    with torch.no_grad():
        network.double()(images)
    linearized = Linearized(seeded(network))
    return linearized, images, random(K, linearized.layout.size)


MODULES = {**LAYERS, **{name: Function(function) for name, function in FUNCTIONS.items()}}


@pytest.mark.parametrize("name", MODULES)
def test_tangents(name) -> None:
    linearized, images, delta = prepared(between(MODULES[name]))
    expected = torch.stack([linearized.jvp(images, d) for d in delta])
    torch.testing.assert_close(linearized.jvp(images, delta), expected)


@pytest.mark.parametrize("name", ["relu in place", "pointwise", "batch norm", "hardswish in place"])
def test_the_walk_is_shared(name) -> None:
    linearized, images, delta = prepared(between(MODULES[name]))
    runs = []
    linearized.network.register_forward_hook(lambda *_: runs.append(1))
    linearized.jvp(images, delta)
    assert len(runs) == 1
    linearized.vjp(images, random(K, 2, 3))
    assert len(runs) == 2


class Reads(nn.Module):
    """Asks for a value in a way that vmap cannot answer."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2.0 if float(x.detach().sum()) > 0 else 3.0)


def test_what_cannot_be_shared_is_done_singly() -> None:
    linearized, images, delta = prepared(between(Reads()))
    expected = torch.stack([linearized.jvp(images, d) for d in delta])
    torch.testing.assert_close(linearized.jvp(images, delta), expected)


def test_every_jacobian() -> None:
    linearized, images, delta = prepared(between(nn.ReLU()))
    cotangent, index = random(K, 2, 3), torch.tensor([1, 0, 1])
    matrix = dense(linearized, images)
    network = NetworkJacobian(linearized, images, batch=1)
    for jacobian in (network, DenseJacobian(matrix, network.base)):
        torch.testing.assert_close(
            jacobian.forward(delta), torch.einsum("ncp,kp->knc", matrix, delta)
        )
        torch.testing.assert_close(
            jacobian.pull(cotangent), torch.einsum("ncp,knc->kp", matrix, cotangent)
        )
        torch.testing.assert_close(
            jacobian.forward(delta, index), torch.einsum("ncp,kp->knc", matrix[index], delta)
        )
        torch.testing.assert_close(
            jacobian.pull(cotangent[:, [1, 0, 1]], index),
            torch.einsum("ncp,knc->kp", matrix[index], cotangent[:, [1, 0, 1]]),
        )


def test_heads() -> None:
    head = FeatureJacobian(random(5, 4), random(5, 3))
    delta, cotangent = random(K, head.size), random(K, 5, 3)
    torch.testing.assert_close(head.forward(delta), torch.stack([head.forward(d) for d in delta]))
    torch.testing.assert_close(head.pull(cotangent), torch.stack([head.pull(c) for c in cotangent]))
