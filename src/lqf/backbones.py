"""What is known of backbones by name alone: which there are, and how their images are normalised.

Read while a workflow is being planned, so it imports neither torch nor torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEMO = "demo_resnet"


@dataclass(frozen=True)
class Normalisation:
    """How images in [0, 1] become a network's input: ``(x − mean) / deviation``, channel by channel.

    Attributes:
        mean: of red, green and blue.
        deviation: of red, green and blue.
    """

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
    """How the images of a backbone are normalised.

    Args:
        backbone: the section ``backbone`` of the configuration: ``normalisation`` if it is set,
            else what the weights of ``network`` were trained with.

    Returns:
        Mean and deviation.
    """
    given = backbone.get("normalisation")
    if given is None:
        return _EXCEPTIONS.get(backbone["network"], IMAGENET)
    return Normalisation(tuple(given["mean"]), tuple(given["deviation"]))
