"""What is kept of a network's run at w0: the same products, less work, and when it is refused."""

import logging

import pytest
import torch
from dense_networks import random, seeded
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lqf.jacobian import Linearized, NetworkJacobian

N, C = 4, 3


class Block(nn.Module):
    """A residual block that works in place, as those of torchvision do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.1, inplace=True)
        y = self.second(y)
        y += x
        return F.silu(y, inplace=True)


def network() -> nn.Module:
    layers = nn.Conv2d(3, 3, 1), Block(), Block(), nn.Dropout(0.5, inplace=True)
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(108, C)))


def jacobian(batch: int = 3) -> NetworkJacobian:
    return NetworkJacobian(Linearized(network()), random(N, 3, 6, 6), batch)


def products(J: NetworkJacobian, seed: int) -> list[Tensor]:
    delta, c = random(J.size, seed=seed), random(N, C, seed=seed)
    return [J.forward(delta), J.pull(c), *J.pass_(delta, lambda change, rows: change - c[rows])]


def test_what_is_kept_gives_the_same_bits() -> None:
    J = jacobian()
    expected = [products(J, seed) for seed in (1, 2, 3)]
    with J.keeping(10**9):
        found = [products(J, seed) for seed in (1, 2, 3)]
        assert J._kept is not None
        assert set(J._kept) == {0, 3}
        some = J.forward(random(J.size), torch.tensor([2, 0]))
    for those, these in zip(expected, found, strict=True):
        assert all(torch.equal(*pair) for pair in zip(those, these, strict=True))
    torch.testing.assert_close(some, J.forward(random(J.size))[[2, 0]])
    assert J._kept is None


class Convolutions(TorchDispatchMode):
    """Counts convolutions, forward ones."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def convolutions(action) -> int:
    with Convolutions() as counter:
        action()
    return counter.count


def test_further_passes_do_not_run_the_network_again() -> None:
    J, delta = jacobian(N), random(jacobian().size)
    run = convolutions(lambda: J.linearized.outputs(J.images))
    whole = convolutions(lambda: J.pass_(delta, lambda change, _: change))
    with J.keeping(10**9):
        first = convolutions(lambda: J.pass_(delta, lambda change, _: change))
        second = convolutions(lambda: J.pass_(delta, lambda change, _: change))
        pulled = convolutions(lambda: J.pull(J.base))
    assert run == 5
    assert first == whole
    assert second == whole - run
    assert pulled == 0


def test_nothing_is_kept_that_does_not_fit() -> None:
    J = jacobian()
    with J.keeping(1000):
        products(J, 1)
        assert J._kept is None


def test_an_exception_ends_the_keeping() -> None:
    J = jacobian()

    def interrupted() -> None:
        with J.keeping(10**9):
            products(J, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert J._kept is None


class Late(nn.Module):
    """Reads a value, and changes it in place after that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, C)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        scale = torch.tanh(y.mean((2, 3)))
        return self.head(scale * F.relu(y, inplace=True).mean((2, 3)))


class Written(Late):
    """Writes into a part of a value."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * 2
        y[:, 0] = 0.5
        return self.head(y.mean((2, 3)))


class Moody(Late):
    """Calls other functions at every other call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.conv(x).mean((2, 3))
        return self.head(y if self.calls % 2 else y * 1.0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Late, "after it was used"), (Written, "in place"), (Moody, "same functions")],
)
def test_a_run_that_cannot_be_repeated_is_not(kind, reason, caplog) -> None:
    J = NetworkJacobian(Linearized(seeded(kind())), random(N, 3, 6, 6), N)
    expected = [products(J, seed) for seed in (1, 2)]
    with caplog.at_level(logging.INFO), J.keeping(10**9):
        found = [products(J, seed) for seed in (1, 2)]
        assert J._kept is None
    torch.testing.assert_close(found, expected)
    assert reason in caplog.text
