import pytest
import torch
from torch import Tensor, nn

from lqf.networks import (
    build,
    fold_batch_norm,
    freeze_batch_norm,
    has_batch_norm,
    new_head,
    swap_activation,
)


def images(count: int = 3, size: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def pretrained(pooling: str = "average", **choices: object) -> nn.Module:
    """A demo network whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    network = build("demo_resnet", 4, pooling=pooling, covariance_dimension=4, **choices).double()
    network.train()
    for _ in range(3):
        network(images(16) * 2 + 1)
    return network.eval()


@pytest.mark.parametrize("pooling", ["average", "covariance"])
def test_folding_keeps_the_function_and_leaves_no_batch_norm(pooling: str) -> None:
    network = pretrained(pooling)

    folded = fold_batch_norm(network)

    assert not has_batch_norm(folded)
    assert has_batch_norm(network)
    torch.testing.assert_close(folded(images()), network(images()))


def test_folding_leaves_a_norm_that_follows_no_convolution() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()

    folded = fold_batch_norm(network)

    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == 1


def test_folding_leaves_a_convolution_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.norm(self.conv(x)))

    network = Twice().double().eval()
    network.norm.running_mean.uniform_(1, 2)

    folded = fold_batch_norm(network)

    assert has_batch_norm(folded)
    torch.testing.assert_close(folded(images()), network(images()))


def test_frozen_batch_norm_ignores_training_mode() -> None:
    network = freeze_batch_norm(pretrained())
    before = {name: b.clone() for name, b in network.named_buffers()}

    network.train()
    network(images())

    after = dict(network.named_buffers())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_activation_is_chosen_by_name() -> None:
    relu, leaky = build("demo_resnet", 3), build("demo_resnet", 3, activation="leaky_relu")

    assert not any(isinstance(m, nn.LeakyReLU) for m in relu.modules())
    slopes = {m.negative_slope for m in leaky.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.1}
    assert swap_activation(relu, "leaky_relu", 0.2) == 7
    assert not any(isinstance(m, nn.ReLU) for m in relu.modules())


def test_head_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = new_head(8, 3, seed=5)
    torch.manual_seed(2)
    again, other = new_head(8, 3, seed=5), new_head(8, 3, seed=6)

    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert first.weight.abs().max() <= 8**-0.5


def test_unknown_network_is_refused_with_the_closest() -> None:
    with pytest.raises(ValueError, match=r"unknown network 'resnet51'.*did you mean 'resnet50'"):
        build("resnet51", 3)
