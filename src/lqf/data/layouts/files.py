"""Steps that the readers share."""

from __future__ import annotations

import os
from pathlib import Path

from lqf.data.listing import WrongListing

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def images_under(root: Path, folder: str = ".") -> list[str]:
    """List image files, by the end of their names.

    Args:
        root: The folder of unpacked archives.
        folder: A folder in it.

    Returns:
        Paths relative to `root`, sorted by code point.
    """
    found = []
    top = os.path.join(root, folder)
    for place, _, names in os.walk(top):
        inside = os.path.relpath(place, root)
        start = "" if inside == "." else f"{Path(inside).as_posix()}/"
        found += [f"{start}{name}" for name in names if _ending(name) in IMAGES]
    return sorted(found)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def lines_of(root: Path, name: str, dataset: str) -> list[str]:
    """Read a list.

    Args:
        root: The folder of unpacked archives.
        name: The file.
        dataset: Name of the data set, for the message.

    Returns:
        Its lines that are not empty, without what surrounds them.

    Raises:
        WrongListing: If it is missing.
    """
    require(root, name, dataset)
    return [line.strip() for line in (root / name).read_text("utf-8").splitlines() if line.strip()]


def require(root: Path, name: str, dataset: str) -> None:
    """Refuse archives without a file.

    Args:
        root: The folder of unpacked archives.
        name: The file.
        dataset: Name of the data set, for the message.

    Raises:
        WrongListing: If it is missing.
    """
    if not (root / name).is_file():
        raise WrongListing(
            f"the archives of data set {dataset!r} do not hold {name!r}: they are not complete, or of "
            "another edition; get them again."
        )


def require_all(root: Path, names: list[tuple[str, str]], dataset: str) -> None:
    """Refuse archives without the images that a list names.

    Args:
        root: The folder of unpacked archives.
        names: Path and class of each.
        dataset: Name of the data set, for the message.

    Raises:
        WrongListing: If some are missing; the message names the first and its class.
    """
    missing = [one for one in names if not os.path.isfile(os.path.join(root, one[0]))]
    if missing:
        name, label = min(missing)
        raise WrongListing(
            f"the archives of data set {dataset!r} lack {len(missing)} of {len(names)} listed images, "
            f"the first is {name!r} of class {label!r}: get a complete copy."
        )
