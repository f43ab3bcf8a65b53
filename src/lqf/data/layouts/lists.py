"""Data sets whose labels and splits are in text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lqf.data.catalogue import Split
from lqf.data.layouts.files import images_under, lines_of, require_all
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import Published

_Row = tuple[str, str, Split]
"""Path, class, split."""


def listed_paths(root: Path, dataset: Published) -> Listing:
    """Read TrainImages.txt and TestImages.txt with ``class/file`` on each line (MIT-67).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The listed images with their splits.
    """
    rows: list[_Row] = []
    for name, split in _SPLIT_LISTS:
        for line in lines_of(root, name, dataset.name):
            rows.append((f"Images/{line}", line.partition("/")[0], split))
    return _listing(root, dataset, rows, sorted({key for _, key, _ in rows}))


_SPLIT_LISTS: tuple[tuple[str, Split], ...] = (
    ("TrainImages.txt", "train"),
    ("TestImages.txt", "test"),
)


def pets(root: Path, dataset: Published) -> Listing:
    """Read ``id class species breed`` lines of two lists; the class counts from 1 (Oxford Pets).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The listed images with their splits.
    """
    numbers: dict[int, set[str]] = {}
    found: list[tuple[str, int, Split]] = []
    splits: tuple[tuple[str, Split], ...] = (("trainval", "train"), ("test", "test"))
    for name, split in splits:
        for line in lines_of(root, f"annotations/{name}.txt", dataset.name):
            if line.startswith("#"):
                continue
            identifier, number = line.split()[:2]
            numbers.setdefault(int(number), set()).add(identifier.rpartition("_")[0])
            found.append((identifier, int(number), split))
    keys = _one_name_each(numbers, dataset)
    rows: list[_Row] = [(f"images/{one}.jpg", keys[number], split) for one, number, split in found]
    return _listing(root, dataset, rows, [keys[number] for number in sorted(keys)])


def birds(root: Path, dataset: Published) -> Listing:
    """Join images.txt, image_class_labels.txt and train_test_split.txt by image id (CUB-200-2011).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.

    Raises:
        WrongListing: If a list lacks an image.
    """
    top = "CUB_200_2011"
    tables = {
        name: dict(line.split(maxsplit=1) for line in lines_of(root, f"{top}/{name}", dataset.name))
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    }
    paths, labels, training, classes = tables.values()
    if not paths.keys() == labels.keys() == training.keys():
        odd = min((paths.keys() ^ labels.keys()) | (paths.keys() ^ training.keys()))
        raise WrongListing(
            f"image {odd} of data set {dataset.name!r} is not in all of images.txt, "
            "image_class_labels.txt and train_test_split.txt: the archive is not complete."
        )
    rows: list[_Row] = [
        (f"{top}/images/{path}", classes[labels[one]], "train" if training[one] == "1" else "test")
        for one, path in paths.items()
    ]
    keys = [classes[number] for number in sorted(classes, key=int)]
    return _listing(root, dataset, rows, keys)


def birds_2010(root: Path, dataset: Published) -> Listing:
    """Read lists of ``NNN.name/file``; the number is the label, from 1 on (CUB-200).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.
    """
    rows: list[_Row] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for line in lines_of(root, f"lists/{split}.txt", dataset.name):
            rows.append((f"images/{line}", line.partition("/")[0], split))
    return _listing(root, dataset, rows, sorted({key for _, key, _ in rows}))


def aircraft(root: Path, dataset: Published) -> Listing:
    """Read ``id variant`` lines, where a variant may hold blanks (FGVC Aircraft).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.
    """
    top = "fgvc-aircraft-2013b/data"
    rows: list[_Row] = []
    splits: tuple[tuple[str, Split], ...] = (("trainval", "train"), ("test", "test"))
    for name, split in splits:
        for line in lines_of(root, f"{top}/images_variant_{name}.txt", dataset.name):
            identifier, _, variant = line.partition(" ")
            rows.append((f"{top}/images/{identifier}.jpg", variant, split))
    return _listing(
        root, dataset, rows, sorted(lines_of(root, f"{top}/variants.txt", dataset.name))
    )


def _listing(root: Path, dataset: Published, rows: Sequence[_Row], keys: Sequence[str]) -> Listing:
    labels = {key: label for label, key in enumerate(keys)}
    for path, key, _ in rows:
        if key not in labels:
            raise WrongListing(
                f"{path!r} of data set {dataset.name!r} has class {key!r}, which is not among its "
                f"{len(keys)} classes: the archive is not complete."
            )
    require_all(root, [(path, key) for path, key, _ in rows], dataset.name)
    found = len(images_under(root))
    entries = tuple(Entry(path, labels[key], split) for path, key, split in rows)
    names = class_names(keys, _readable)
    return Listing(names, entries, found, {"in no list": max(0, found - len(entries))})


def _readable(key: str) -> str:
    """Returns a name without its number: ``001.Black_footed_Albatross`` is Black footed Albatross."""
    number, dot, name = key.partition(".")
    return (name if dot and number.isdigit() else key).replace("_", " ")


def _one_name_each(numbers: dict[int, set[str]], dataset: Published) -> dict[int, str]:
    for number, names in numbers.items():
        if len(names) != 1:
            raise WrongListing(
                f"class {number} of data set {dataset.name!r} has images of {' and '.join(sorted(names))}: "
                "the list is not the official one."
            )
    return {number: next(iter(names)) for number, names in numbers.items()}
