"""Write a data set to a folder, all of it or nothing.

The folder holds ``images.npy`` (uint8, N × H × W × 3), ``index.csv`` (a line per image: row,
class, label, split, source, sha256), ``dataset.json`` (what it is) and ``contact_sheet.png`` (what
it looks like). The same images and size give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lqf.data import catalogue
from lqf.data.build import build, count
from lqf.data.catalogue import SPLITS
from lqf.data.contact_sheet import contact_sheet
from lqf.data.folder import replacing, write_description, write_index
from lqf.data.listing import Entry, Listing, assign, check_filled, ordered
from lqf.data.pack import pack

if TYPE_CHECKING:
    # With pydantic, which the demo does without.
    from lqf.config_sections import OwnKeys
    from lqf.data.published import Published

_LOG = logging.getLogger(__name__)


def prepare(name: str, folder: Path | str, image_size: int = 24) -> None:
    """Make a data set of the demo and write it to disk.

    The files are written beside the folder first and take its place by renaming, so a run that
    fails or is interrupted leaves the folder as it was. Images have H = W = `image_size`.

    Raises:
        ValueError: If the name or the size is not allowed, if the folder holds anything that is
            not part of a data set, or if a class is empty or an image is there twice.
    """
    spec = catalogue.get(name)
    keys = ("name", "title", "group", "distance", "description", "seed", "paper")
    with replacing(folder, image_size) as partial:
        made = list(tqdm(build(spec, image_size), total=count(spec), desc=name, unit="image"))
        entries = [entry for entry, _ in made]
        images = np.stack([image for _, image in made])
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        check_filled(spec.classes, entries, name)
        for first, row in _repeated(digests):
            raise ValueError(
                f"rows {first} ({entries[first].split}) and {row} ({entries[row].split}) of data set "
                f"{name!r} are the same image: every image may appear once; change the recipe or the "
                "seed in the catalogue."
            )
        np.save(partial / "images.npy", images)
        about = {key: getattr(spec, key) for key in keys}
        _describe(partial, image_size, about, spec.classes, entries, digests)


def prepare_published(
    dataset: Published,
    archives: Path,
    folder: Path,
    image_size: int = 256,
    workers: int | None = None,
) -> None:
    """Make the packed form of a data set of the paper; the folder gets all of it or nothing."""
    from lqf.data.archives import read_manifest
    from lqf.data.layouts import read_layout
    from lqf.data.unpack import unpack

    keys = ("name", "title", "group", "citation", "licence", "home", "split", "validation", "paper")
    whole = dataclasses.asdict(dataset)
    about = {key: whole[key] for key in keys}
    about |= {"distance": "real", "description": dataset.notes or dataset.title}
    skipped: Counter[str] = Counter()
    with (
        replacing(folder, image_size) as partial,
        tempfile.TemporaryDirectory(prefix=f"{partial.name}-", dir=partial.parent) as unpacked,
    ):
        root = Path(unpacked)
        files = read_manifest(archives)
        about["archives"] = {entry["name"]: entry["sha256"] for _, entry in files}
        for path, entry in files:
            limit, move = entry["unpacked"], entry["move"]
            skipped += unpack(
                path, root, limit=limit, take=dataset.take, junk=dataset.junk, move=move
            )
        listing = assign(read_layout(root, dataset), dataset)
        rubbish = {f"rubbish {pattern}": number for pattern, number in sorted(skipped.items())}
        listing = dataclasses.replace(listing, left_out={**listing.left_out, **rubbish})
        cut = dataset.cut_bottom
        write_listing(listing, root, partial, image_size, about, cut_bottom=cut, workers=workers)


def prepare_own(
    name: str,
    own: OwnKeys,
    folder: Path,
    image_size: int = 256,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the packed form of a user's images; the folder gets all of it or nothing."""
    from lqf.data.own import list_own

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
    """Decode image files and write the four files of a data set.

    Args:
        listing: The images; every one has a split.
        root: Folder that their paths are relative to.
        folder: An empty folder to write to.
        size: Height and width of the stored images, S.
        about: What else dataset.json says; has at least name and title.
        cut_bottom: Rows to cut off the bottom of every stored image.
        workers: Processes; None takes every core.
        progress: Whether there is a progress bar.
    """
    name, entries = about["name"], ordered(listing.entries)
    paths = [entry.path for entry in entries]
    digests, truncated = pack(
        root,
        paths,
        folder / "images.npy",
        size,
        cut_bottom=cut_bottom,
        workers=workers,
        name=name,
        progress=progress,
    )
    twice = [
        [paths[first], paths[row]]
        for first, row in _repeated(digests)
        if entries[first].split != entries[row].split
    ]
    for one, other in twice[:3]:
        _LOG.warning("%s: %r and %r are the same file.", name, one, other)
    if truncated:
        _LOG.warning("%s: %d files end early, as %r.", name, len(truncated), truncated[0])
    odd = {
        "left_out": {reason: number for reason, number in listing.left_out.items() if number},
        "truncated": truncated,
        "duplicates_across_splits": twice,
    }
    _describe(folder, size, {**about, **odd}, listing.classes, entries, digests)


def _repeated(digests: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yields the first row with the same bytes, and each further one."""
    first: dict[str, int] = {}
    for row, digest in enumerate(digests):
        if first.setdefault(digest, row) != row:
            yield first[digest], row


def _describe(
    folder: Path,
    size: int,
    about: Mapping[str, Any],
    classes: Sequence[str],
    entries: Sequence[Entry],
    digests: Sequence[str],
) -> None:
    """Write what belongs to images.npy in a folder."""
    rows = zip(entries, digests, strict=True)
    write_index(folder, ((classes[e.label], e.label, e.split or "", e.path, d) for e, d in rows))
    splits = Counter(entry.split for entry in entries)
    description = {
        **about,
        "classes": list(classes),
        "image_size": size,
        "images": {split: splits[split] for split in SPLITS},
    }
    write_description(folder, description)
    groups: list[list[int]] = [[] for _ in classes]
    for row, entry in enumerate(entries):
        if entry.split == "train":
            groups[entry.label].append(row)
    title = f"{about['title']}: {len(classes)} classes, {len(entries)} images"
    images = np.load(folder / "images.npy", mmap_mode="r")
    # Photographs in 256 colours take a third of the space, and the report holds every sheet.
    sheet = contact_sheet(title, images, groups, classes).quantize(256)
    sheet.save(folder / "contact_sheet.png", optimize=True)
