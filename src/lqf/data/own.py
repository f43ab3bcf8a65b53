"""Data sets of the user: folders of images, or a CSV file that lists them.

Read while a workflow is being planned, so it imports neither torch nor Pillow.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from lqf.config_sections import OwnKeys
from lqf.data.catalogue import SPLITS, Split
from lqf.data.kinds import kind_of_file
from lqf.data.listing import Entry, Listing, WrongListing, checked, draw
from lqf.data.own_folder import list_folder
from lqf.data.published import SplitRule

#: Where a user's images are, as a configuration or a script says it.
OwnData = OwnKeys

_COLUMNS = ("path", "class", "split")


def list_own(name: str, own: OwnKeys) -> tuple[Listing, Path]:
    """List a user's images with their splits, and name the folder that their paths are relative to.

    Raises:
        WrongListing: If what is there does not make a data set.
    """
    if own.folder is not None:
        root = Path(own.folder)
        listing = list_folder(name, root)
    else:
        index = Path(cast(str, own.index))
        root = Path(own.root) if own.root else index.parent
        listing = _from_index(name, index, root)
    if len(listing.classes) < 2:
        raise WrongListing(
            f"data set {name!r} has {len(listing.classes)} class in {root}: a classifier needs at least 2."
        )
    splits = {entry.split for entry in listing.entries}
    for split, fraction in (("test", own.test), ("val", own.validation)):
        if split not in splits:
            rule = SplitRule("fraction", test=fraction, seed=own.seed, group=own.group)
            listing = draw(listing, rule, "train", cast(Split, split))
    return checked(listing, name), root


def problems(listing: Listing, root: Path) -> Iterator[str]:
    """Look at the beginning of every file, before anything is decoded."""
    wrong = [entry.path for entry in listing.entries if kind_of_file(root / entry.path) != "image"]
    if wrong:
        more = f" ({len(wrong)} files like it)" if len(wrong) > 1 else ""
        yield f"{root / wrong[0]} is no image that can be read{more}: replace it or remove it."


def fingerprint(listing: Listing, root: Path) -> str:
    """Tell whether the images are still the same, by name, class, split, size and time of change."""
    digest = hashlib.sha256()
    for entry in sorted(listing.entries, key=lambda one: one.path):
        status = (root / entry.path).stat()
        parts = (entry.path, listing.classes[entry.label], entry.split)
        digest.update(repr((*parts, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _from_index(name: str, index: Path, root: Path) -> Listing:
    if not index.is_file():
        raise WrongListing(f"the index {index} of data set {name!r} does not exist.")
    rows = _rows(name, index)
    classes = sorted({row["class"] for _, row in rows})
    labels = {key: label for label, key in enumerate(classes)}
    entries = []
    for number, row in rows:
        split = row.get("split") or "train"
        if split not in SPLITS:
            raise WrongListing(
                f"line {number} of {index} has split {split!r}: choose one of {', '.join(SPLITS)}."
            )
        if not row["class"]:
            raise WrongListing(f"line {number} of {index} has no class.")
        if "\0" in row["path"] or not os.path.isfile(root / row["path"]):
            raise WrongListing(
                f"line {number} of {index} names {row['path']!r}, which is not a file in {root}."
            )
        entries.append(Entry(os.path.normpath(row["path"]), labels[row["class"]], split))
    return Listing(tuple(classes), tuple(entries), len(entries))


# Returns line number and cells of each row.
def _rows(name: str, index: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise WrongListing(
            f"the index {index} of data set {name!r} cannot be read ({error.strerror}): see that this user "
            "may read it."
        ) from None
    except UnicodeDecodeError as error:
        raise WrongListing(
            f"the index {index} of data set {name!r} is not UTF-8 (byte {error.start}): save it as "
            "'CSV UTF-8'."
        ) from None
    except csv.Error as error:
        raise WrongListing(
            f"the index {index} of data set {name!r} is not CSV after line {reader.line_num}: {error}; "
            "save it as 'CSV UTF-8' again."
        ) from None
    for column in _COLUMNS[:2]:
        if column not in columns:
            raise WrongListing(
                f"the index {index} of data set {name!r} has no column {column!r}: it needs path and "
                f"class, and may have split, with commas between them; it begins with {columns!r}."
            )
    if len({*columns}) < len(columns):
        raise WrongListing(
            f"the index {index} of data set {name!r} has a column twice: {columns!r}."
        )
    if not rows:
        raise WrongListing(
            f"the index {index} of data set {name!r} has no rows below its columns: add a line for each "
            "image."
        )
    return rows
