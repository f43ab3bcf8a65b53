"""A ResNet small enough to pre-train in a minute on two cores, for the demo scale.

The CIFAR-style network of He et al. 2016 (§4.2) with one block a stage: a 3 × 3 stem that halves
the resolution, as that of ResNet-50 does, and three residual blocks of 8, 16 and 32 channels, 8
layers in all, about 20,000 parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

WIDTHS = (8, 16, 32)
STRIDES = (1, 2, 1)


class _Block(nn.Module):
    """Two 3 × 3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = activation()
        if stride == 1 and inputs == outputs:
            self.shortcut: nn.Module = nn.Identity()
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(y)) + self.shortcut(x))


def demo_features(activation: Callable[[], nn.Module]) -> nn.Module:
    """The feature extractor: N × 3 × H × W to N × 32 × H/4 × W/4."""
    blocks: list[nn.Module] = []
    inputs = WIDTHS[0]
    for outputs, stride in zip(WIDTHS, STRIDES, strict=True):
        blocks.append(_Block(inputs, outputs, stride, activation))
        inputs = outputs
    stem = [nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), activation()]
    features = nn.Sequential(*stem, *blocks)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return features
