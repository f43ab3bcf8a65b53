"""Steps that the readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lqf.data.catalogue import Split
from lqf.data.kinds import named_like_an_image
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import Published

Row = tuple[str, str, Split]
"""Path, class, split."""


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
        found += [f"{start}{name}" for name in names if named_like_an_image(name)]
    return sorted(found)


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


def readable(key: str) -> str:
    """Write a class without its number: ``001.Black_footed_Albatross`` is Black footed Albatross.

    Args:
        key: What identifies the class.

    Returns:
        Its name.
    """
    number, dot, name = key.partition(".")
    return (name if dot and number.isdigit() else key).replace("_", " ")


def listing_of(
    root: Path,
    dataset: Published,
    rows: Sequence[Row],
    keys: Sequence[str],
    display: Callable[[str], str] = readable,
) -> Listing:
    """Make a listing of what a data set's own lists say.

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.
        rows: Path, class and split of each image.
        keys: The classes, in the order of the labels.
        display: Makes a name of a class.

    Returns:
        The listed images.

    Raises:
        WrongListing: If a row names another class, or an image that is not there.
    """
    labels = {key: label for label, key in enumerate(keys)}
    for path, key, _ in rows:
        if key not in labels:
            raise WrongListing(
                f"{path!r} of data set {dataset.name!r} has class {key!r}, which is not among its "
                f"{len(keys)} classes: the archive is not complete."
            )
    require_all(root, [(path, key) for path, key, _ in rows], dataset.name)
    found = len(images_under(root))
    entries = tuple(Entry(path, labels[key], split) for path, key, split in rows)
    left_out = {"in no list": max(0, found - len(entries))}
    return Listing(class_names(keys, display), entries, found, left_out)
