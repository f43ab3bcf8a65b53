"""Data sets whose folders are the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from lqf.data.catalogue import Split
from lqf.data.layouts.files import images_under
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import Published


def numbered_folders(root: Path, dataset: Published) -> Listing:
    """Read ``TOP/NNN.name/*``; the number is the label, from 1 on (Caltech-256).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images, without a split.
    """
    return _by_folder(root, dataset, lambda key: key.partition(".")[2])


def class_folders(root: Path, dataset: Published) -> Listing:
    """Read ``TOP/CLASS/*`` (Malaria).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images, without a split.
    """
    return _by_folder(root, dataset, str)


def _by_folder(root: Path, dataset: Published, display: Callable[[str], str]) -> Listing:
    paths = images_under(root)
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.split("/")[-2], []).append(path)
    dropped = {key: len(by_folder.pop(key)) for key in dataset.drop if key in by_folder}
    keys = sorted(by_folder)
    names = class_names(keys, display)
    entries = tuple(
        Entry(path, label, None) for label, key in enumerate(keys) for path in by_folder[key]
    )
    left_out = {f"class {key}": number for key, number in dropped.items()}
    return Listing(names, entries, len(paths), left_out)


def split_folders(root: Path, dataset: Published) -> Listing:
    """Read ``TOP/SPLIT/CLASS/*`` (Chest X-Ray).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.

    Raises:
        WrongListing: If a folder is not a split of the catalogue.
    """
    paths = images_under(root)
    keys = sorted({path.split("/")[-2] for path in paths})
    entries = []
    for path in paths:
        *_, split, key, _ = path.split("/")
        if split not in dataset.images:
            raise WrongListing(
                f"the archives of data set {dataset.name!r} have {path!r}, but the splits of the "
                f"catalogue are {', '.join(dataset.images)}: this is another edition."
            )
        entries.append(Entry(path, keys.index(key), cast(Split, split)))
    return Listing(tuple(keys), tuple(entries), len(paths))
