"""Read and check `config/datasets.yaml`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lqf import documents
from lqf.data.published import Catalogue, CatalogueError, File, Published, SplitRule, Weights

_KINDS = (Catalogue, Published, Weights, SplitRule, File)


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
        return TypeAdapter(Catalogue).validate_python(documents.read(path))
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue {path}: run in the folder that holds config/datasets.yaml, or "
            "name the file with --catalogue or LQF_CATALOGUE."
        ) from None
    except documents.BadDocument as error:
        raise CatalogueError(f"the catalogue cannot be read: {error}") from None
    except ValidationError as error:
        raise CatalogueError(documents.problems(error, "catalogue key", *_KINDS)) from None
