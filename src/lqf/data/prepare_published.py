"""Prepare a data set of the paper: unpack its archives, list, check, decode."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from lqf.data.archives import read_manifest
from lqf.data.folder import replacing
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
    """Make the packed form from the archives; the folder gets all of it or nothing."""
    skipped: Counter[str] = Counter()
    with (
        replacing(folder, image_size) as partial,
        tempfile.TemporaryDirectory(prefix=f"{partial.name}-", dir=partial.parent) as unpacked,
    ):
        root = Path(unpacked)
        files = read_manifest(archives)
        for path, entry in files:
            limit, move = entry["unpacked"], entry["move"]
            skipped += unpack(
                path, root, limit=limit, take=dataset.take, junk=dataset.junk, move=move
            )
        listing = assign(read_layout(root, dataset), dataset)
        rubbish = {f"rubbish {pattern}": number for pattern, number in sorted(skipped.items())}
        write_listing(
            dataclasses.replace(listing, left_out={**listing.left_out, **rubbish}),
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
