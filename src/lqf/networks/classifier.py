"""A classifier in three parts — features, pooling, head — built by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lqf.networks.demo import demo_features
from lqf.networks.pooling import AveragePooling, CovariancePooling

DEMO = "demo_resnet"


class Classifier(nn.Module):
    """``head(pool(features(x)))``.

    Args:
        features: N × 3 × H × W to N × D × h × w.
        pool: N × D × h × w to N × F.
        head: N × F to N × C.
    """

    def __init__(self, features: nn.Module, pool: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = pool
        self.head = head

    def embed(self, images: Tensor) -> Tensor:
        """The features the head sees, N × F."""
        return self.pool(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """The outputs, N × C."""
        return self.head(self.embed(images))


def make_activation(name: str, slope: float) -> Callable[[], nn.Module]:
    """A factory of activation modules: ``relu``, or ``leaky_relu`` with its slope."""
    return (lambda: nn.LeakyReLU(slope)) if name == "leaky_relu" else nn.ReLU


def new_head(features: int, classes: int, seed: int) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from its own seed.

    A head of zeros would make the backbone's Jacobian zero, so heads start random.
    """
    head = nn.Linear(features, classes)
    generator = torch.Generator().manual_seed(seed)
    bound = features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    return head


def backbone_names() -> list[str]:
    """Names that `build_features` accepts."""
    from torchvision import models

    residual = [n for n in models.list_models(module=models) if n.startswith(("resnet", "resnext"))]
    return [DEMO, *residual]


def build_features(name: str, activation: str, slope: float) -> nn.Module:
    """The feature extractor called ``name``, with fresh weights.

    Args:
        name: ``demo_resnet`` or a residual network of torchvision.
        activation: ``relu`` or ``leaky_relu``.
        slope: slope of the leaky ReLU for negative inputs.

    Raises:
        ValueError: if there is no such network.
    """
    if name == DEMO:
        return demo_features(make_activation(activation, slope))
    allowed = backbone_names()
    if name not in allowed:
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown network {name!r}.{hint} Allowed are {', '.join(allowed)}.")
    from torchvision import models

    network = models.get_model(name, weights=None)
    features = nn.Sequential(*list(network.children())[:-2])
    swap_activation(features, activation, slope)
    return features


def swap_activation(network: nn.Module, activation: str, slope: float) -> int:
    """Replace every ReLU by the named activation, never in place; returns how many."""
    make = make_activation(activation, slope)
    count = 0
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                setattr(module, name, make())
                count += 1
    return count


def feature_channels(features: nn.Module) -> int:
    """D, the channels of the last feature map."""
    convolutions = [m for m in features.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    last = convolutions[-1]
    return last.out_channels if isinstance(last, nn.Conv2d) else last.num_features


def build(
    name: str,
    classes: int,
    *,
    activation: str = "relu",
    slope: float = 0.1,
    pooling: str = "average",
    covariance_dimension: int = 16,
    seed: int = 0,
) -> Classifier:
    """A classifier with fresh weights.

    Args:
        name: network name, see `build_features`.
        classes: C.
        activation: ``relu`` or ``leaky_relu``.
        slope: slope of the leaky ReLU.
        pooling: ``average`` or ``covariance``.
        covariance_dimension: d, channels after the 1 × 1 reduction of covariance pooling.
        seed: seed of the head.
    """
    features = build_features(name, activation, slope)
    channels = feature_channels(features)
    pool: AveragePooling | CovariancePooling
    if pooling == "covariance":
        pool = CovariancePooling(channels, covariance_dimension)
    else:
        pool = AveragePooling(channels)
    return Classifier(features, pool, new_head(pool.size, classes, seed))
