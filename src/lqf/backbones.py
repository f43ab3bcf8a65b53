"""What is known of backbones by name alone: which there are, and how their images are normalised.

Read while a workflow is being planned, so it imports neither torch nor torchvision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lqf.nearest import nearest

DEMO = "demo_resnet"

# Classifiers that average a feature map and classify the average by one layer.
_MAPS = (  # noqa: SIM905  (a list of names reads better as words)
    "densenet121 densenet161 densenet169 densenet201 efficientnet_b0 efficientnet_b1 "
    "efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 "
    "efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s mnasnet0_5 mnasnet0_75 "
    "mnasnet1_0 mnasnet1_3 mobilenet_v2 regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf "
    "regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf "
    "regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 "
    "resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d "
    "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 "
    "squeezenet1_1 wide_resnet101_2 wide_resnet50_2"
).split()

# Classifiers whose head sees something else.
_VECTORS = (  # noqa: SIM905  (a list of names reads better as words)
    "alexnet convnext_base convnext_large convnext_small convnext_tiny maxvit_t "
    "mobilenet_v3_large mobilenet_v3_small swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t "
    "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 "
    "vit_l_16 vit_l_32"
).split()

# They normalise their input themselves and have several outputs.
_REFUSED = ("googlenet", "inception_v3")

# Built for one image size.
_FIXED = ("maxvit_t", "vit_")
FIXED_SIZE = 224


# Torchvision's weights: all have the first, some have others.
_V2 = (  # noqa: SIM905  (a list of names reads better as words)
    "efficientnet_b1 mobilenet_v2 mobilenet_v3_large regnet_x_16gf regnet_x_1_6gf regnet_x_32gf "
    "regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_16gf regnet_y_1_6gf "
    "regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 "
    "resnet50 resnext101_32x8d resnext50_32x4d wide_resnet101_2 wide_resnet50_2"
).split()
_SWAG = ("regnet_y_128gf", "regnet_y_16gf", "regnet_y_32gf", "vit_b_16", "vit_h_14", "vit_l_16")
_SWAG_ONLY = ("regnet_y_128gf", "vit_h_14")

ACTIVATIONS = ("relu", "leaky_relu")
SWAP = "swap"
INPLACE_ABN = "inplace_abn"
INPLACE_ABN_SLOPE = 0.01


class UnusableBackbone(ValueError):
    """A network that does not exist or cannot be used; the message says why."""


def names() -> tuple[str, ...]:
    """List the networks."""
    return (DEMO, *sorted([*_MAPS, *_VECTORS]))


def check_network(name: str) -> None:
    """Refuse a name that is no network.

    Raises:
        UnusableBackbone: if there is no such network, or it cannot be cut into features and a head.
    """
    if name in _REFUSED:
        raise UnusableBackbone(
            f"network {name!r} cannot be used: it has auxiliary outputs and normalises its input "
            f"itself; take one of {', '.join(names())}."
        )
    if name not in names():
        raise UnusableBackbone(f"unknown network {name!r}: {nearest(name, names())}")


def gives_maps(name: str) -> bool:
    """Whether a network averages a feature map, which can then be pooled by covariance instead."""
    return name == DEMO or name in _MAPS


@dataclass(frozen=True)
class Normalisation:
    """How red, green and blue in [0, 1] become a network's input: ``(x − mean) / deviation``."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


CENTRED = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
"""For networks pre-trained here."""

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""For torchvision's weights and those of mapillary/inplace_abn."""

_EXCEPTIONS = {
    DEMO: CENTRED,
    "efficientnet_v2_l": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def normalisation(backbone: Mapping[str, Any]) -> Normalisation:
    """How the images of a backbone are normalised, by the section ``backbone`` of the configuration.

    It is ``normalisation`` if that is set, else what the weights of ``network`` were trained with.
    """
    given = backbone.get("normalisation")
    if given is None:
        return _EXCEPTIONS.get(backbone["network"], IMAGENET)
    return Normalisation(tuple(given["mean"]), tuple(given["deviation"]))


def sources(network: str, activation: str) -> tuple[str, ...]:
    """List the published weights of a network."""
    if activation == "leaky_relu":
        return (SWAP, INPLACE_ABN) if network == "resnet50" else (SWAP,)
    if network == DEMO:
        return ()
    return (
        *(("imagenet1k_v1",) if network not in _SWAG_ONLY else ()),
        *(("imagenet1k_v2",) if network in _V2 else ()),
        *(("imagenet1k_swag_e2e_v1", "imagenet1k_swag_linear_v1") if network in _SWAG else ()),
    )


def source(backbone: Mapping[str, Any], activation: str) -> str:
    """The name of published weights or the path of a file; for ``swap`` those of ReLU."""
    weights = backbone["weights"]
    chosen = weights[activation]
    return str(weights["relu"] if chosen == SWAP else chosen)


def published(backbone: Mapping[str, Any], activation: str) -> str | None:
    """The name in the catalogue of the weights for an activation; None for a file."""
    name = source(backbone, activation)
    return None if is_file(name) else f"{backbone['network']}.{name}"


def swapped(backbone: Mapping[str, Any], activation: str) -> bool:
    """Whether the weights belong to another activation, so that batch norm needs new statistics."""
    return (backbone.get("weights") or {}).get(activation) == SWAP


def is_file(value: str) -> bool:
    """Whether a value of ``backbone.weights`` is a path: has a folder or the ending of weights."""
    return "/" in value or value.endswith((".pth", ".pt", ".tar", ".safetensors"))


def problems(backbone: Mapping[str, Any], image_size: int) -> Iterator[str]:
    """Tell what is wrong with the section ``backbone`` of a configuration."""
    network = backbone["network"]
    try:
        check_network(network)
    except UnusableBackbone as problem:
        yield f"config key 'backbone.network' is {network!r}: {problem}"
        return
    if image_size != FIXED_SIZE and network.startswith(_FIXED):
        yield (
            f"config key 'image_size' is {image_size}, but the network {network!r} is built for "
            f"{FIXED_SIZE} alone: set {FIXED_SIZE}, or take another network."
        )
    weights = backbone.get("weights")
    if (weights is None) == (backbone["pretrain"] is None):
        yield (
            "config keys 'backbone.weights' and 'backbone.pretrain' are "
            f"{'both null' if weights is None else 'both set'}: set 'weights' to use weights that "
            "exist, or 'pretrain' to train the backbone here, and the other one to null."
        )
        return
    for activation in ACTIVATIONS if weights else ():
        yield from _source_problems(backbone, activation)


def _source_problems(backbone: Mapping[str, Any], activation: str) -> Iterator[str]:
    network, value = backbone["network"], backbone["weights"][activation]
    where = f"config key 'backbone.weights.{activation}' is {value!r}"
    allowed = sources(network, activation)
    if is_file(value):
        if not Path(value).is_file():
            yield f"{where}, a file that does not exist: correct the path."
    elif value not in allowed:
        choices = [*allowed, "the path of a file (.pth, .pt or .safetensors)"]
        yield f"{where}, which {network!r} does not have: {nearest(value, choices)}"
    elif value == INPLACE_ABN and backbone["slope"] != INPLACE_ABN_SLOPE:
        yield (
            f"config key 'backbone.slope' is {backbone['slope']}, but the weights {INPLACE_ABN!r} "
            f"were trained with {INPLACE_ABN_SLOPE}: set that, or choose 'swap'."
        )
