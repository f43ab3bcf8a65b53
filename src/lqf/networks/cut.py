"""Cut a classifier in front of its head: torchvision's networks, and others by their last layer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Cut:
    """What comes before a classifier's head.

    Attributes:
        features: N × 3 × H × W to a map N × D × h × w, or to N × D where there is no such map. Its
            parameters have the names that they have in the classifier.
        width: D.
        maps: whether ``features`` gives a map, which the classifier then averages over positions.
        head: beginnings of the names that the head's parameters have in the classifier.
    """

    features: nn.Module
    width: int
    maps: bool
    head: tuple[str, ...] = ()


def last_layer(network: nn.Module) -> tuple[str, nn.Module]:
    """The last module that holds parameters, with its name before it.

    Raises:
        ValueError: if no module holds parameters.
    """
    holders = [
        (name, m)
        for name, m in network.named_modules()
        if next(m.parameters(False), None) is not None
    ]
    if not holders:
        raise ValueError(f"{type(network).__name__} has no parameters; there is nothing to fit.")
    return holders[-1]


def cut(network: nn.Module) -> Cut:
    """Everything of a torchvision classifier but its head; its modules are shared with the result.

    Where a network averages a feature map and classifies the average by one layer, the map is what
    is kept; dropout in between is left out, and so is what SqueezeNet does after its head. Other
    networks (VGG, ViT, …) keep all that leads to their last linear layer.

    Raises:
        ValueError: if the last layer is not linear.
    """
    name, layer = last_layer(network)
    children = _map_children(network)
    if children is not None:
        width = layer.weight.shape[1]  # type: ignore[index]
        head = tuple(f"{n}." for n, _ in network.named_children() if n not in children)
        return Cut(nn.Sequential(children), int(width), True, head)
    if not isinstance(layer, nn.Linear) or not name:
        raise ValueError(
            f"{type(network).__name__} cannot be cut into features and a head: its last layer is "
            f"{name or 'the network itself'}, a {type(layer).__name__}, and not a linear layer."
        )
    network.set_submodule(name, nn.Identity())
    return Cut(network, layer.in_features, False, (f"{name}.",))


def _map_children(network: nn.Module) -> OrderedDict[str, nn.Module] | None:
    """The children that make the feature map, or None if the head sees something else."""
    from torchvision import models

    children = OrderedDict(network.named_children())
    if isinstance(network, models.ResNet | models.RegNet | models.ShuffleNetV2):
        return OrderedDict((n, m) for n, m in children.items() if n not in ("avgpool", "fc"))
    if isinstance(network, models.DenseNet):
        # The last activation is a function call there.
        return OrderedDict(features=children["features"], relu=nn.ReLU())
    if isinstance(network, models.MNASNet):
        return OrderedDict(layers=children["layers"])
    if isinstance(network, models.MobileNetV2 | models.EfficientNet | models.SqueezeNet):
        return OrderedDict(features=children["features"])
    return None
