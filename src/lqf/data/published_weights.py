"""Published weights by name: those of the catalogue, then torchvision's own registry."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from lqf import backbones
from lqf.data.published import Catalogue, CatalogueError, File, Weights

# Torchvision ends the name of a file with the beginning of its sha256.
_PREFIX = re.compile(r".*-([0-9a-f]{8,64})\.pth")


def find(catalogue: Catalogue, name: str) -> Weights:
    """Look weights up.

    Args:
        catalogue: The catalogue, which goes before torchvision.
        name: NETWORK.SOURCE as ``resnet18.imagenet1k_v1``.

    Raises:
        CatalogueError: If neither knows them.
    """
    if name in catalogue.weights:
        return catalogue.weights[name]
    network, _, source = name.partition(".")
    backbones.check_network(network)
    from torchvision import models

    if network == backbones.DEMO or source not in backbones.sources(network, "relu"):
        allowed = ", ".join(f"{network}.{one}" for one in backbones.sources(network, "relu"))
        raise CatalogueError(
            f"there are no published weights {name!r}: those of {network!r} are {allowed or 'none'}."
        )
    found = models.get_model_weights(network)[source.upper()]
    file_name = PurePosixPath(urlsplit(found.url).path).name
    prefix = _PREFIX.fullmatch(file_name)
    accuracy = found.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return Weights(
        name=name,
        title=f"{network}, torchvision {source.upper()}",
        licence="BSD-3-Clause",
        top1=accuracy,
        file=File(file_name, (found.url,), prefix=prefix[1] if prefix else None),
    )
