"""Steps that the readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lqf.data.catalogue import Split
from lqf.data.kinds import named_like_an_image
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import Published

Reader = Callable[[Path, Published], Listing]
Row = tuple[str, str, Split]
"""Path, class, split."""


def images_under(root: Path) -> list[str]:
    """List image files by the end of their names, relative to a folder, sorted by code point."""
    found = []
    for place, _, names in os.walk(root):
        inside = os.path.relpath(place, root)
        start = "" if inside == "." else f"{Path(inside).as_posix()}/"
        found += [f"{start}{name}" for name in names if named_like_an_image(name)]
    return sorted(found)


def lines_of(root: Path, name: str, dataset: Published) -> list[str]:
    """Read the lines of a list that are not empty, without what surrounds them.

    Raises:
        WrongListing: If it is missing, or no text.
    """
    require(root, name, dataset)
    try:
        text = (root / name).read_text("utf-8")
    except UnicodeDecodeError:
        raise WrongListing(
            f"{name!r} of data set {dataset.name!r} is no text: get its archive again."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def require(root: Path, name: str, dataset: Published) -> None:
    """Refuse archives without a file.

    Raises:
        WrongListing: If it is missing.
    """
    if not (root / name).is_file():
        raise WrongListing(
            f"the archives of data set {dataset.name!r} do not hold {name!r}: they are not complete, or "
            "of another edition; get them again."
        )


def readable(key: str) -> str:
    """Write a class without its number: ``001.Black_footed_Albatross`` is Black footed Albatross."""
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

    Raises:
        WrongListing: If a row names another class, or more images are missing than the catalogue
            tolerates.
    """
    labels = {key: label for label, key in enumerate(keys)}
    for path, key, _ in rows:
        if key not in labels:
            raise WrongListing(
                f"{path!r} of data set {dataset.name!r} has class {key!r}, which is not among its "
                f"{len(keys)} classes: the archive is not complete."
            )
    there = {*images_under(root)}
    missing = sorted((path, key) for path, key, _ in rows if path not in there)
    names = class_names(keys, display)
    if len(missing) > dataset.missing:
        allowed = f" ({dataset.missing} may be)" if dataset.missing else ""
        raise WrongListing(
            f"{len(missing)} of {len(rows)} listed images of data set {dataset.name!r} are missing"
            f"{allowed}, the first is {missing[0][0]!r} of class {names[labels[missing[0][1]]]!r}: get a "
            "complete copy."
        )
    entries = tuple(Entry(path, labels[key], split) for path, key, split in rows if path in there)
    left_out = {"in no list": max(0, len(there) - len(entries))}
    if missing:
        left_out[f"listed, but missing (first {missing[0][0]})"] = len(missing)
    return Listing(names, entries, len(there), left_out)
