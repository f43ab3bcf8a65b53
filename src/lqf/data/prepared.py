"""What is wrong with prepared data, told before a job starts; reads text files only."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lqf.data.catalogue import SPLITS
from lqf.data.folder import read_checked


def problems(folder: Path) -> Iterator[str]:
    """Look through the index of a prepared data set, if it is there already."""
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
