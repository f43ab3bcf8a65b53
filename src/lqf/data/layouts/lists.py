"""Data sets whose labels and splits are in text files."""

from __future__ import annotations

from pathlib import Path

from lqf.data.catalogue import Split
from lqf.data.layouts.files import Row, lines_of, listing_of
from lqf.data.listing import Listing, WrongListing
from lqf.data.published import Published


def listed_paths(root: Path, dataset: Published) -> Listing:
    """Read TrainImages.txt and TestImages.txt with ``class/file`` on each line (MIT-67).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The listed images with their splits.
    """
    return _by_folder(root, dataset, "Images", ("TrainImages.txt", "TestImages.txt"))


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
    rows: list[Row] = [(f"images/{one}.jpg", keys[number], split) for one, number, split in found]
    return listing_of(root, dataset, rows, [keys[number] for number in sorted(keys)])


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
    rows: list[Row] = [
        (f"{top}/images/{path}", classes[labels[one]], "train" if training[one] == "1" else "test")
        for one, path in paths.items()
    ]
    keys = [classes[number] for number in sorted(classes, key=int)]
    return listing_of(root, dataset, rows, keys)


def birds_2010(root: Path, dataset: Published) -> Listing:
    """Read lists of ``NNN.name/file``; the number is the label, from 1 on (CUB-200).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.
    """
    return _by_folder(root, dataset, "images", ("lists/train.txt", "lists/test.txt"))


def _by_folder(root: Path, dataset: Published, top: str, lists: tuple[str, str]) -> Listing:
    """Read the lists of training and test images, whose first folder is the class."""
    rows: list[Row] = []
    splits: tuple[Split, ...] = ("train", "test")
    for name, split in zip(lists, splits, strict=True):
        for line in lines_of(root, name, dataset.name):
            rows.append((f"{top}/{line}", line.partition("/")[0], split))
    return listing_of(root, dataset, rows, sorted({key for _, key, _ in rows}))


def aircraft(root: Path, dataset: Published) -> Listing:
    """Read ``id variant`` lines, where a variant may hold blanks (FGVC Aircraft).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.
    """
    top = "fgvc-aircraft-2013b/data"
    rows: list[Row] = []
    splits: tuple[tuple[str, Split], ...] = (("trainval", "train"), ("test", "test"))
    for name, split in splits:
        for line in lines_of(root, f"{top}/images_variant_{name}.txt", dataset.name):
            identifier, _, variant = line.partition(" ")
            rows.append((f"{top}/images/{identifier}.jpg", variant, split))
    return listing_of(
        root, dataset, rows, sorted(lines_of(root, f"{top}/variants.txt", dataset.name))
    )


def _one_name_each(numbers: dict[int, set[str]], dataset: Published) -> dict[int, str]:
    for number, names in numbers.items():
        if len(names) != 1:
            raise WrongListing(
                f"class {number} of data set {dataset.name!r} has images of {' and '.join(sorted(names))}: "
                "the list is not the official one."
            )
    return {number: next(iter(names)) for number, names in numbers.items()}
