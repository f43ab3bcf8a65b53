"""Prepare a data set of the paper: unpack its archives, list, check, decode."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from lqf.data.archives import read_manifest
from lqf.data.folder import check_replaceable, check_size, replacing
from lqf.data.layouts import read_layout
from lqf.data.listing import assign
from lqf.data.prepare_listing import write_listing
from lqf.data.published import Published
from lqf.data.unpack import unpack


def prepare_published(
    dataset: Published,
    archives: Path,
    folder: Path,
    image_size: int = 256,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the packed form from the archives; the folder gets all of it or nothing.

    Args:
        dataset: The catalogue's entry.
        archives: Folder with archives.json, as `lqf.data.archives.obtain` leaves it.
        folder: Where to write; an earlier version in it is replaced.
        image_size: Height and width of the stored images in pixels.
        workers: Processes that decode; None takes every core.
        progress: Show a bar.
    """
    check_size(image_size)
    folder = Path(folder).resolve()
    check_replaceable(folder)
    files = read_manifest(archives)
    folder.parent.mkdir(parents=True, exist_ok=True)
    skipped: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unpacked:
        root = Path(unpacked)
        for path, entry in files:
            skipped += unpack(
                path,
                root,
                limit=entry["unpacked"],
                take=dataset.take,
                junk=dataset.junk,
                move=entry["move"],
            )
        listing = assign(read_layout(root, dataset), dataset)
        rubbish = {f"rubbish {pattern}": number for pattern, number in sorted(skipped.items())}
        listing = dataclasses.replace(listing, left_out={**listing.left_out, **rubbish})
        with replacing(folder) as partial:
            write_listing(
                listing,
                root,
                partial,
                image_size,
                _about(dataset, files),
                cut_bottom=dataset.cut_bottom,
                workers=workers,
                progress=progress,
            )


def _about(dataset: Published, files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "group": dataset.group,
        "distance": "real",
        "description": dataset.notes or dataset.title,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "home": dataset.home,
        "split": dataclasses.asdict(dataset.split),
        "validation": dataclasses.asdict(dataset.validation) if dataset.validation else None,
        "paper": dataset.paper,
        "archives": {entry["name"]: entry["sha256"] for _, entry in files},
    }
