"""Data sets of the user: folders of images, or a CSV file that lists them."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lqf.data.catalogue import SPLITS, Split
from lqf.data.folder import check_replaceable, replacing
from lqf.data.layouts.files import IMAGES
from lqf.data.listing import Entry, Listing, WrongListing, check_filled, draw
from lqf.data.prepare_listing import write_listing
from lqf.data.prepare_published import check_size
from lqf.data.published import SplitRule

_COLUMNS = ("path", "class", "split")


@dataclass(frozen=True)
class OwnData:
    """Where a user's images are and how to split what is not split.

    Attributes:
        folder: Folder with ``train/CLASS/*`` and, if they exist, ``val/CLASS/*`` and ``test/CLASS/*``.
        index: CSV file with the columns path, class and, if it likes, split; instead of `folder`.
        root: What the paths in `index` are relative to; by default its folder.
        title: How tables call the data set; by default its name.
        test: Fraction of the images to test on, where there is no test split.
        validation: Fraction of the training images set aside, where there is no validation split.
        seed: Of the draws.
        group: Regular expression at the start of a file name; files with the same first group stay
            in the same split.
    """

    folder: Path | None = None
    index: Path | None = None
    root: Path | None = None
    title: str | None = None
    test: float = 0.2
    validation: float = 0.1
    seed: int = 0
    group: str | None = None

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.index is None):
            raise ValueError("own data needs either the key 'folder' or the key 'index', not both.")
        for key in ("test", "validation"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(
                    f"the key '{key}' of own data is {getattr(self, key)!r}: choose a fraction between "
                    "0 and 1."
                )

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> OwnData:
        """Make it from the keys of a configuration.

        Args:
            settings: Attributes by name.

        Returns:
            The description.

        Raises:
            ValueError: If a key does not exist or does not fit.
        """
        allowed = [field.name for field in dataclasses.fields(cls)]
        for key in settings:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(
                    f"own data has no key {key!r}: {hint}allowed are {', '.join(allowed)}."
                )
        given = dict(settings)
        for key in ("folder", "index", "root"):
            given[key] = Path(given[key]) if given.get(key) is not None else None
        return cls(**given)


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


def list_own(name: str, own: OwnData) -> tuple[Listing, Path]:
    """List a user's images with their splits.

    Args:
        name: Name of the data set.
        own: Where the images are.

    Returns:
        The images, and the folder that their paths are relative to.
    """
    if own.folder is not None:
        root = own.folder
        listing = _from_folder(name, root)
    else:
        index = cast(Path, own.index)
        root = own.root or index.parent
        listing = _from_index(name, index, root)
    splits = {entry.split for entry in listing.entries}
    for split, fraction in (("test", own.test), ("val", own.validation)):
        if split not in splits:
            rule = SplitRule("fraction", test=fraction, seed=own.seed, group=own.group)
            listing = draw(listing, rule, "train", cast(Split, split))
    return check_filled(listing, name), root


def _from_folder(name: str, root: Path) -> Listing:
    if not (root / "train").is_dir():
        raise WrongListing(
            f"data set {name!r} has no folder {root / 'train'}: put the images into "
            f"{root / 'train' / 'CLASS'}, a folder for each class."
        )
    classes = sorted(path.name for path in (root / "train").iterdir() if _is_class(path))
    labels = {key: label for label, key in enumerate(classes)}
    entries: list[Entry] = []
    left_out: Counter[str] = Counter()
    for split in SPLITS:
        top = root / split
        for place in sorted(path for path in top.glob("*") if _is_class(path)):
            if place.name not in labels:
                raise WrongListing(
                    f"data set {name!r} has the class {place.name!r} in {split} but not in train: add "
                    f"images to train or remove {place}."
                )
            for path in sorted(place.rglob("*")):
                if path.is_dir():
                    continue
                if path.name.startswith(".") or path.suffix.lower() not in IMAGES:
                    left_out["not an image by its name"] += 1
                    continue
                inside = path.relative_to(root).as_posix()
                entries.append(Entry(inside, labels[place.name], split))
    return Listing(tuple(classes), tuple(entries), len(entries), dict(left_out))


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _from_index(name: str, index: Path, root: Path) -> Listing:
    if not index.is_file():
        raise WrongListing(f"the index {index} of data set {name!r} does not exist.")
    with index.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        for column in _COLUMNS[:2]:
            if column not in columns:
                raise WrongListing(
                    f"the index {index} of data set {name!r} has no column {column!r}: it needs path "
                    "and class, and may have split."
                )
        rows = list(reader)
    classes = sorted({row["class"] for row in rows})
    labels = {key: label for label, key in enumerate(classes)}
    entries = []
    for number, row in enumerate(rows, 2):
        split = row.get("split") or "train"
        if split not in SPLITS:
            raise WrongListing(
                f"line {number} of {index} has split {split!r}: choose one of {', '.join(SPLITS)}."
            )
        if not row["class"]:
            raise WrongListing(f"line {number} of {index} has no class.")
        if not os.path.isfile(root / row["path"]):
            raise WrongListing(
                f"line {number} of {index} names {row['path']!r}, which is not a file in {root}."
            )
        entries.append(Entry(row["path"], labels[row["class"]], cast(Split, split)))
    return Listing(tuple(classes), tuple(entries), len(entries))
