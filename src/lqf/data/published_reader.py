"""Read and check `config/datasets.yaml`, and know what torchvision publishes besides."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lqf import backbones, documents
from lqf.data.published import Catalogue, CatalogueError, File, Weights

# Torchvision ends the name of a file with the beginning of its sha256.
_PREFIX = re.compile(r".*-([0-9a-f]{8,64})\.pth")


def default_path() -> Path:
    """Find the catalogue.

    Returns:
        The file that LQF_CATALOGUE names, else config/datasets.yaml under the current folder, else
        the one of the source tree that this package is installed from.
    """
    if named := os.environ.get("LQF_CATALOGUE"):
        return Path(named)
    here = Path("config", "datasets.yaml")
    return here if here.is_file() else Path(__file__).resolve().parents[3] / here


def read(path: Path | str | None = None) -> Catalogue:
    """Read the catalogue.

    Args:
        path: The YAML file; None finds it as `default_path` does.

    Raises:
        CatalogueError: If the file is missing or a key in it is wrong; one line for each key.
    """
    path = Path(path or default_path())
    try:
        return documents.validated(Catalogue, documents.read(path), "catalogue key")
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue {path}: run in the folder that holds config/datasets.yaml, or "
            "name the file with --catalogue or LQF_CATALOGUE."
        ) from None
    except documents.BadDocument as error:
        raise CatalogueError(f"the catalogue cannot be read: {error}") from None
    except documents.WrongKeys as wrong:
        raise CatalogueError(str(wrong)) from None


def find_weights(catalogue: Catalogue, name: str) -> Weights:
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
