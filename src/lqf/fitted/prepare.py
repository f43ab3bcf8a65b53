"""From a name or a module to the network at w0 that is linearised."""

from __future__ import annotations

import difflib
import logging
from copy import deepcopy

import torch
from torch import Tensor, nn

from lqf.networks import (
    AveragePooling,
    Classifier,
    CovariancePooling,
    cut,
    kept_activations,
    last_layer,
    new_head,
    swap_activation,
)

log = logging.getLogger(__name__)

ACTIVATIONS = ("relu", "leaky_relu", None)
HEADS = ("random", "keep")
POOLINGS = ("average", "covariance")
_DIMENSION = 16
_CALIBRATION = 256


def prepare_network(
    network: str | nn.Module,
    classes: int,
    *,
    head: str,
    activation: str | None,
    slope: float,
    pooling: str,
    seed: int,
    pretrained: bool = True,
) -> nn.Module:
    """A private copy of the network at w0, in evaluation mode, with the head that is asked for.

    Args:
        network: a torchvision name (its ImageNet weights are loaded), or a module, never changed.
        classes: C.
        head: ``random`` puts a new last layer (PyTorch's initialisation), ``keep`` leaves it.
        activation: what every ReLU and leaky ReLU becomes; None leaves them.
        slope: slope of the leaky ReLU.
        pooling: ``average`` leaves the network's own pooling, ``covariance`` replaces it.
        seed: of the new head.
        pretrained: load the weights of a named network.

    Returns:
        The copy.

    Raises:
        ValueError: if an option is unknown or cannot be had with this network.
        TypeError: if the network is no module.
    """
    for key, value, allowed in (
        ("head", head, HEADS),
        ("activation", activation, ACTIVATIONS),
        ("pooling", pooling, POOLINGS),
    ):
        if value not in allowed:
            choices = ", ".join(map(repr, allowed))
            raise ValueError(f"{key} is {value!r}; allowed are {choices}.")
    copy = _named(network, pretrained) if isinstance(network, str) else deepcopy(network)
    if not isinstance(copy, nn.Module):
        raise TypeError(
            f"network is a {type(network).__name__}; a torchvision name or an nn.Module is needed."
        )
    if activation is not None:
        _swap(copy, activation, slope)
    for module in copy.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    if pooling == "covariance":
        if head == "keep" and not _pools_covariance(copy):
            raise ValueError(
                "pooling='covariance' changes the features, so the head cannot be kept; use "
                "head='random'."
            )
        copy = _with_covariance(copy)
    if head == "random":
        _replace_head(copy, classes, seed)
    return copy.eval()


def _swap(network: nn.Module, activation: str, slope: float) -> None:
    """Replace every ReLU, and say which activations stay."""
    name, swapped = type(network).__name__, swap_activation(network, activation, slope)
    if kept := kept_activations(network):
        log.warning("activation=%r replaces ReLU alone: %s keeps %s", activation, name, kept)
    elif not swapped:
        log.warning("%s has no ReLU to replace; its activations are as pre-trained", name)


def calibrate_pooling(network: nn.Module, images: Tensor) -> None:
    """Fit the reduction of covariance pooling to unlabelled training images, if there is one.

    Args:
        network: the prepared network.
        images: N × 3 × H × W.
    """
    if _pools_covariance(network):
        with torch.no_grad():
            maps = network.features(images[:_CALIBRATION])  # type: ignore[operator]
            network.pool.calibrate(maps)  # type: ignore[operator, union-attr]


def _pools_covariance(network: nn.Module) -> bool:
    return isinstance(network, Classifier) and isinstance(network.pool, CovariancePooling)


def _named(name: str, pretrained: bool) -> nn.Module:
    from torchvision import models

    allowed = models.list_models(module=models)
    if name not in allowed:
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"network is {name!r}, which is not a torchvision classifier.{hint} Allowed are "
            f"{', '.join(allowed)}, or an nn.Module."
        )
    if not pretrained:
        return models.get_model(name, weights=None)
    members = models.get_model_weights(name).__members__
    return models.get_model(
        name, weights="IMAGENET1K_V1" if "IMAGENET1K_V1" in members else "DEFAULT"
    )


def _with_covariance(network: nn.Module) -> nn.Module:
    """Return the same features with covariance pooling between them and the head.

    Raises:
        TypeError: if features and head cannot be told apart.
    """
    if _pools_covariance(network):
        return network
    if isinstance(network, Classifier) and isinstance(network.pool, AveragePooling):
        features, channels = network.features, network.pool.size
    else:
        try:
            found = cut(network)
        except ValueError:
            found = None
        if found is None or not found.maps:
            raise TypeError(
                "pooling='covariance' needs an lqf Classifier with a feature map, or a torchvision "
                f"network that averages one (as ResNets do), not {type(network).__name__}; use "
                "pooling='average'."
            )
        features, channels = found.features, found.width
    pool = CovariancePooling(channels, min(channels, _DIMENSION))
    return Classifier(features, pool, nn.Linear(pool.size, 1)).to(next(features.parameters()))


def _replace_head(network: nn.Module, classes: int, seed: int) -> None:
    name, old = last_layer(network)
    if isinstance(old, nn.Linear):
        new: nn.Module = new_head(old.in_features, classes, seed)
    elif isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1) and old.groups == 1:
        linear = new_head(old.in_channels, classes, seed)
        new = nn.Conv2d(old.in_channels, classes, 1)
        with torch.no_grad():
            new.weight.copy_(linear.weight[:, :, None, None])
            new.bias.copy_(linear.bias)  # type: ignore[union-attr]
    else:
        raise ValueError(
            f"the last layer of {type(network).__name__} is {name or 'itself'}, a "
            f"{type(old).__name__}; head='random' replaces a linear layer or a 1 × 1 convolution: "
            "use head='keep'."
        )
    if not name:
        raise ValueError(
            f"the network is a single {type(old).__name__}; wrap it in nn.Sequential, or use "
            "head='keep'."
        )
    network.set_submodule(name, new.to(old.weight))


def check_parameters(network: nn.Module) -> None:
    """Refuse parameters with which there is nothing to linearise, or in mixed precision.

    Args:
        network: the prepared network.

    Raises:
        ValueError: if the head's weight is zero, the precisions differ or are not full, no
            parameter is trained, or one is not finite.
    """
    _, layer = last_layer(network)
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and not weight.any():
        raise ValueError(
            "the head's weight is zero, which makes the Jacobian of everything before it zero; use "
            "head='random'."
        )
    kinds = {p.dtype for p in network.parameters()}
    if kinds not in ({torch.float32}, {torch.float64}):
        found = ", ".join(sorted(str(kind) for kind in kinds))
        raise ValueError(
            f"the network's parameters are {found}; the linear algebra needs one precision, float32 "
            "or float64: call network.float() first."
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError(
            "every parameter has requires_grad=False; the parameters to fit need requires_grad=True."
        )
    for name, p in network.named_parameters():
        if not torch.isfinite(p).all():
            raise ValueError(f"parameter {name!r} contains NaN or infinite values.")
