"""Data sets whose folders are the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from lqf.data.catalogue import Split
from lqf.data.layouts.files import Reader, images_under
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import Published


def _by_folder(display: Callable[[str], str]) -> Reader:
    """A reader of ``TOP/CLASS/*``, without a split."""

    def read(root: Path, dataset: Published) -> Listing:
        paths = images_under(root)
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            by_folder.setdefault(path.split("/")[-2], []).append(path)
        dropped = {key: len(by_folder.pop(key)) for key in dataset.drop if key in by_folder}
        keys = sorted(by_folder)
        entries = tuple(
            Entry(path, label, None) for label, key in enumerate(keys) for path in by_folder[key]
        )
        left_out = {f"class {key}": number for key, number in dropped.items()}
        return Listing(class_names(keys, display), entries, len(paths), left_out)

    return read


# ``TOP/SPLIT/CLASS/*`` (Chest X-Ray).
def _split_folders(root: Path, dataset: Published) -> Listing:
    paths = images_under(root)
    keys = sorted({path.split("/")[-2] for path in paths})
    entries = []
    for path in paths:
        *_, split, key, _ = path.split("/")
        if split not in dataset.images:
            raise WrongListing(
                f"the archives of data set {dataset.name!r} have {path!r}, but the splits of the "
                f"catalogue are {', '.join(dataset.images)}: this is another edition."
            )
        entries.append(Entry(path, keys.index(key), cast(Split, split)))
    return Listing(tuple(keys), tuple(entries), len(paths))


LAYOUTS: dict[str, Reader] = {
    # NNN.name: the number is the label, from 1 on (Caltech-256).
    "numbered_folders": _by_folder(lambda key: key.partition(".")[2]),
    "class_folders": _by_folder(str),  # Malaria.
    "split_folders": _split_folders,
}
