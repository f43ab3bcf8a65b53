"""The converted leaky-ReLU network against the formula of in-place activated batch norm."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from lqf.networks import cut, swap_activation
from lqf.networks.inplace_abn import converted
from lqf.networks.weights import WrongWeights, features_state

BLOCKS = [2, 1, 1, 1]
SLOPE, EPSILON = 0.01, 1e-5


class Normalise(nn.Module):
    """(|γ| + ε)(x − μ)/√(σ² + ε) + β, then leaky ReLU if ``active``; γ of both signs."""

    def __init__(self, channels: int, active: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(0.1 * torch.randn(channels))
        self.register_buffer("running_mean", 0.1 * torch.randn(channels))
        self.register_buffer("running_var", 0.5 + torch.rand(channels))
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        def shaped(v: Tensor) -> Tensor:
            return v[None, :, None, None]

        scale = (self.weight.abs() + EPSILON) / (self.running_var + EPSILON).sqrt()
        y = (x - shaped(self.running_mean)) * shaped(scale) + shaped(self.bias)
        return functional.leaky_relu(y, SLOPE) if self.active else y


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.convs = nn.Sequential()
        self.convs.add_module("conv1", nn.Conv2d(inputs, width, 1, bias=False))
        self.convs.add_module("bn1", Normalise(width))
        self.convs.add_module("conv2", nn.Conv2d(width, width, 3, stride, 1, bias=False))
        self.convs.add_module("bn2", Normalise(width))
        self.convs.add_module("conv3", nn.Conv2d(width, outputs, 1, bias=False))
        self.convs.add_module("bn3", Normalise(outputs, active=False))
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.proj_conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.proj_bn = Normalise(outputs, active=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.proj_bn(self.proj_conv(x)) if self.projects else x
        return functional.leaky_relu(self.convs(x) + shortcut, SLOPE)


class Original(nn.Module):
    """A network of mapillary/inplace_abn by its names, its formula written out."""

    def __init__(self) -> None:
        super().__init__()
        self.mod1 = nn.Sequential()
        self.mod1.add_module("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
        self.mod1.add_module("bn1", Normalise(64))
        self.mod1.add_module("pool1", nn.MaxPool2d(3, 2, 1))
        inputs = 64
        for number, count in enumerate(BLOCKS):
            stage, width = nn.Sequential(), 64 * 2**number
            for block in range(count):
                stride = 2 if number and not block else 1
                stage.add_module(f"block{block + 1}", Block(inputs, width, stride))
                inputs = 4 * width
            self.add_module(f"mod{number + 2}", stage)
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc", nn.Linear(inputs, 7))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, 6):
            x = getattr(self, f"mod{number}")(x)
        return self.classifier(x.mean((2, 3)))


def test_converted_network_is_the_original() -> None:
    torch.manual_seed(0)
    original = Original().double().eval()
    plain = ResNet(Bottleneck, BLOCKS, num_classes=7).double().eval()
    swap_activation(plain, "leaky_relu", SLOPE)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    gains = [p for n, p in original.named_parameters() if n.endswith("bn1.weight")]
    assert any((gain < 0).any() for gain in gains)

    missing, unexpected = plain.load_state_dict(converted(original.state_dict()), strict=False)

    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    torch.testing.assert_close(plain(images), original(images), rtol=1e-9, atol=1e-9)


def test_features_of_the_checkpoint_are_complete() -> None:
    state = Original().state_dict()
    found = cut(ResNet(Bottleneck, BLOCKS))

    kept = features_state(converted(state), found.features, found.head, "the test")

    assert set(kept) == set(found.features.state_dict())
    assert (kept["bn1.weight"] > 0).all()


def test_other_names_are_refused() -> None:
    with pytest.raises(WrongWeights, match=r"'layer1.0.conv1.weight' is no name in .*mapillary"):
        converted({"layer1.0.conv1.weight": torch.zeros(1)})
