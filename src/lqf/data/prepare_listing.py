"""Write any data set of image files in the packed form, whoever listed the files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lqf.data.catalogue import SPLITS
from lqf.data.contact_sheet import contact_sheet
from lqf.data.folder import write_description, write_index
from lqf.data.listing import Entry, Listing, ordered
from lqf.data.pack import pack

_LOG = logging.getLogger(__name__)
_SHEET_IMAGE = 48  # pixels of an image on the contact sheet
_SHEET_TOTAL = 240  # images on it, about


def write_listing(
    listing: Listing,
    root: Path,
    folder: Path,
    size: int,
    about: Mapping[str, Any],
    *,
    cut_bottom: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Decode the images and write the four files of a data set.

    Args:
        listing: The images; every one has a split.
        root: Folder that their paths are relative to.
        folder: An empty folder to write to.
        size: Height and width of the stored images, S.
        about: What else dataset.json says; has at least name and title.
        cut_bottom: Rows to cut off the bottom of every stored image.
        workers: Processes; None takes every core.
        progress: Show a bar.
    """
    entries = ordered(listing.entries)
    paths = [entry.path for entry in entries]
    packed = pack(
        root,
        paths,
        folder / "images.npy",
        size,
        cut_bottom=cut_bottom,
        workers=workers,
        name=about["name"],
        progress=progress,
    )
    write_index(
        folder,
        (
            (listing.classes[one.label], one.label, one.split or "", one.path, digest)
            for one, digest in zip(entries, packed.digests, strict=True)
        ),
    )
    duplicates = repeated(entries, packed.digests)
    for first, second in duplicates[:3]:
        _LOG.warning("%s: %r and %r are the same file.", about["name"], first, second)
    if packed.truncated:
        _LOG.warning(
            "%s: %d files end early, the first is %r.",
            about["name"],
            len(packed.truncated),
            packed.truncated[0],
        )
    splits = Counter(entry.split for entry in entries)
    description = {
        **about,
        "classes": list(listing.classes),
        "image_size": size,
        "images": {split: splits[split] for split in SPLITS},
        "left_out": {reason: number for reason, number in listing.left_out.items() if number},
        "truncated": packed.truncated,
        "duplicates_across_splits": [list(pair) for pair in duplicates],
    }
    write_description(folder, description)
    _draw_sheet(folder, f"{about['title']}: {len(listing.classes)} classes", listing, entries)


def repeated(entries: Sequence[Entry], digests: Sequence[str]) -> list[tuple[str, str]]:
    """Find files that are in two splits with the same bytes.

    Returns:
        Pairs of paths: the first file with these bytes, and one with another split.
    """
    first: dict[str, Entry] = {}
    pairs = []
    for entry, digest in zip(entries, digests, strict=True):
        known = first.setdefault(digest, entry)
        if known.split != entry.split:
            pairs.append((known.path, entry.path))
    return pairs


def _draw_sheet(folder: Path, title: str, listing: Listing, entries: Sequence[Entry]) -> None:
    from PIL import Image

    shown = max(1, min(10, _SHEET_TOTAL // len(listing.classes)))
    images = np.load(folder / "images.npy", mmap_mode="r")
    groups: list[list[np.ndarray]] = [[] for _ in listing.classes]
    for row, entry in enumerate(entries):
        group = groups[entry.label]
        if entry.split == "train" and len(group) < shown:
            tile = Image.fromarray(np.asarray(images[row]))
            tile.thumbnail((_SHEET_IMAGE, _SHEET_IMAGE))
            group.append(np.asarray(tile))
    stacked = [np.stack(group) for group in groups]
    names = [name if len(name) <= 32 else f"{name[:31]}…" for name in listing.classes]
    sheet = contact_sheet(f"{title}, {len(entries)} images", stacked, names)
    # Photographs in 256 colours take a third of the space, and the report holds every sheet.
    sheet.quantize(256).save(folder / "contact_sheet.png", optimize=True)
