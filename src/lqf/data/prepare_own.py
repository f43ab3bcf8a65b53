"""Prepare a user's images, with pydantic, which the demo does without."""

from __future__ import annotations

from pathlib import Path

from lqf.data.folder import replacing
from lqf.data.own import OwnData, list_own
from lqf.data.prepare import write_listing


def prepare_own(
    name: str,
    own: OwnData,
    folder: Path,
    image_size: int = 256,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the packed form of a user's images; the folder gets all of it or nothing."""
    about = {
        "name": name,
        "title": own.title or name,
        "group": "coarse",
        "distance": "real",
        "description": f"Own images from {own.folder or own.index}.",
        "seed": own.seed,
        "paper": None,
    }
    with replacing(folder, image_size) as partial:
        listing, root = list_own(name, own)
        write_listing(listing, root, partial, image_size, about, workers=workers, progress=progress)
