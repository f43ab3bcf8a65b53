"""Prepare a data set of the user: list, check, decode."""

from __future__ import annotations

from pathlib import Path

from lqf.data.folder import check_replaceable, check_size, replacing
from lqf.data.own import OwnData, list_own
from lqf.data.prepare_listing import write_listing


def prepare_own(
    name: str,
    own: OwnData,
    folder: Path,
    image_size: int = 256,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the packed form of a user's images; the folder gets all of it or nothing.

    Args:
        name: Name of the data set.
        own: Where the images are.
        folder: Where to write; an earlier version in it is replaced.
        image_size: Height and width of the stored images in pixels.
        workers: Processes that decode; None takes every core.
        progress: Show a bar.
    """
    check_size(image_size)
    folder = Path(folder).resolve()
    check_replaceable(folder)
    listing, root = list_own(name, own)
    about = {
        "name": name,
        "title": own.title or name,
        "group": "coarse",
        "distance": "real",
        "description": f"Own images from {own.folder or own.index}.",
        "seed": own.seed,
        "paper": None,
    }
    with replacing(folder) as partial:
        write_listing(listing, root, partial, image_size, about, workers=workers, progress=progress)
