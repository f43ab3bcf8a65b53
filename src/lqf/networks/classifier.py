"""A classifier in three parts — features, pooling, head — built by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lqf.backbones import DEMO, check_network
from lqf.networks.cut import Cut, cut
from lqf.networks.demo import WIDTHS, demo_features
from lqf.networks.pooling import AveragePooling, CovariancePooling

#: Activations that no swap touches; a sigmoid is a gate.
_KEPT = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.Hardtanh, nn.Mish, nn.PReLU, nn.ReLU6, nn.RReLU),
    *(nn.SELU, nn.SiLU, nn.Softplus, nn.Tanh),
)


class Classifier(nn.Module):
    """``head(pool(features(x)))``.

    Args:
        features: N × 3 × H × W to N × D × h × w, or to N × F.
        pool: N × D × h × w to N × F, or nothing.
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


def build_features(name: str, activation: str, slope: float) -> Cut:
    """The feature extractor called ``name``, with fresh weights.

    What draws random numbers in training (dropout, stochastic depth) is taken out.

    Args:
        name: ``demo_resnet`` or a classifier of torchvision.
        activation: ``relu`` or ``leaky_relu``, which takes the place of every ReLU; other
            activations stay.
        slope: slope of the leaky ReLU for negative inputs.

    Returns:
        The features, N × 3 × H × W to N × D × h × w or N × D.

    Raises:
        ValueError: if there is no such network, or it cannot be used.
    """
    if name == DEMO:
        return Cut(demo_features(make_activation(activation, slope)), WIDTHS[-1], True)
    from torchvision import models

    check_network(name)
    found = cut(models.get_model(name, weights=None))
    swap_activation(found.features, activation, slope)
    _make_plain(found.features)
    return found


def _make_plain(network: nn.Module) -> None:
    """Leave no randomness and no activation that overwrites its input."""
    from torchvision.ops import StochasticDepth

    for name, module in list(network.named_modules()):
        if isinstance(module, StochasticDepth | nn.Dropout | nn.Dropout2d):
            network.set_submodule(name, nn.Identity())
        elif getattr(module, "inplace", False):
            module.inplace = False


def swap_activation(network: nn.Module, activation: str, slope: float) -> int:
    """Replace every ReLU by the named activation, never in place; returns how many."""
    make, new, count = make_activation(activation, slope), {}, 0
    for module in network.modules():
        # Every name of a module that has several; each use of a shared one is swapped.
        for name, child in module._modules.items():
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                if id(child) not in new:
                    new[id(child)] = (child, make())  # the old one lives, so its id is its own
                    count += 1
                module._modules[name] = new[id(child)][1]
    return count


def kept_activations(network: nn.Module) -> str:
    """How many activations of each type `swap_activation` leaves as they are, as "35 ReLU6"; empty if none."""
    types = Counter(type(m).__name__ for m in network.modules() if isinstance(m, _KEPT))
    return " and ".join(f"{count} {name}" for name, count in sorted(types.items()))


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

    Raises:
        ValueError: if there is no such network, or it has no feature map to pool by covariance.
    """
    found = build_features(name, activation, slope)
    pool: nn.Module
    width = found.width
    if pooling == "covariance":
        if not found.maps:
            raise ValueError(
                f"pooling by covariance needs a feature map, and the head of {name} sees none: take "
                "methods with average pooling, or another network."
            )
        pool = CovariancePooling(width, covariance_dimension)
        width = pool.size
    else:
        pool = AveragePooling(width) if found.maps else nn.Identity()
    return Classifier(found.features, pool, new_head(width, classes, seed))
