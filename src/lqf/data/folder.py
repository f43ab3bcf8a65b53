"""The folder of a prepared data set: its files, and how a new version takes the place of an old one."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lqf.data.catalogue import SPLITS
from lqf.files import digest_of
from lqf.provenance import sealed, unsealed

FILES = ("images.npy", "index.csv", "dataset.json", "contact_sheet.png")
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 1024
"""Side of stored images, in pixels."""
COLUMNS = ("row", "class", "label", "split", "source", "sha256")


@contextmanager
def replacing(folder: Path | str, image_size: int) -> Iterator[Path]:
    """Write a data set beside its folder and put it in place by renaming, all of it or nothing.

    An earlier version in it is replaced. Stored images have H = W = `image_size`.

    Yields:
        An empty folder to write to. It is gone afterwards, whatever happens.

    Raises:
        ValueError: If the size is not a whole number in the allowed range, or the folder is a file or
            holds anything that is not part of a data set.
    """
    if not isinstance(image_size, int) or not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
        raise ValueError(
            f"image_size is {image_size!r}: choose a whole number of pixels from {SMALLEST_IMAGE} "
            f"to {LARGEST_IMAGE}."
        )
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder to write the data set to.")
    strangers = sorted({file.name for file in folder.glob("*")} - set(FILES))
    if strangers:
        raise ValueError(
            f"the folder {folder} holds {strangers[0]!r}, which is not part of a data set: name a "
            "new folder, because its whole content would be replaced."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_index(folder: Path, rows: Iterable[tuple[str, int, str, str, str]]) -> None:
    """Write class, label, split, source and sha256 of each image, in the order of the array."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    # A carriage return in a name ends a line for readers, but is no reason to quote for this writer.
    quoting = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for row, values in enumerate(rows):
        broken = any("\r" in str(value) for value in values)
        (quoting if broken else writer).writerow([row, *values])
    (folder / "index.csv").write_bytes(lines.getvalue().encode())


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Write dataset.json, with the digests of the array, of the index and of itself added."""
    digests = {name: digest_of(folder / name) for name in FILES[:2]}
    text = json.dumps(sealed({**description, "sha256": digests}), indent=2, ensure_ascii=False)
    (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """Read dataset.json.

    Raises:
        ValueError: If it is not what was written.
    """
    found = unsealed(folder / "dataset.json")
    if found is None:
        raise ValueError(_damaged(folder, "dataset.json"))
    return found


def read_checked(folder: Path, files: Collection[str] = FILES[:2]) -> dict[str, Any]:
    """Read dataset.json, and see that files beside it are the ones that it was written for.

    To look at images.npy takes about a second a gigabyte.

    Raises:
        ValueError: If a bit of one of them differs.
    """
    description = read_description(folder)
    for name, digest in description.get("sha256", {}).items():
        path = folder.absolute() / name
        if name in files and digest != _digest_once(path, path.stat().st_mtime_ns):
            raise ValueError(_damaged(folder, name))
    return description


def problems(folder: Path) -> Iterator[str]:
    """Tell what is wrong with a prepared data set, if it is there already; reads text files only."""
    index, about = folder / "index.csv", folder / "dataset.json"
    if not (index.is_file() and about.is_file()):
        return
    try:
        classes = read_checked(folder, [index.name]).get("classes", [])
    except ValueError as error:
        yield str(error)
        return
    with open(index, newline="", encoding="utf-8") as handle:
        counts = Counter((row["split"], row["class"]) for row in csv.DictReader(handle))
    for split in SPLITS:
        empty = [name for name in classes if not counts[split, name]]
        if empty:
            yield (
                f"data set {folder.name!r} in {folder} has no image of class {empty[0]!r} in split "
                f"{split!r} ({len(empty)} of {len(classes)} classes are empty there): every class "
                "needs at least one in train, val and test; prepare the data set again."
            )


@functools.cache
def _digest_once(path: Path, changed: int) -> str:
    # A job opens its data set several times, and an array may be large.
    return digest_of(path)


def _damaged(folder: Path, name: str) -> str:
    return (
        f"{folder / name} is damaged or was edited: delete the folder {folder} and prepare the data set "
        "again."
    )


def _replace(folder: Path, partial: Path) -> None:
    # mkdtemp lets only the owner in; give the folder what any other new folder would get.
    umask = os.umask(0)
    os.umask(umask)
    partial.chmod(0o777 & ~umask)
    if not folder.exists() or not any(folder.iterdir()):
        partial.replace(folder)
        return
    # An earlier version is kept until the new one is in place.
    earlier = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    folder.replace(earlier)
    try:
        partial.replace(folder)
    except OSError:
        earlier.replace(folder)
        raise
    shutil.rmtree(earlier)
