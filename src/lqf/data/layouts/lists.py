"""Data sets whose labels and splits are in text files."""

from __future__ import annotations

from pathlib import Path

from lqf.data.catalogue import Split
from lqf.data.layouts.files import Reader, Row, lines_of, listing_of
from lqf.data.listing import Listing, WrongListing
from lqf.data.published import Published

_TWO: tuple[tuple[str, Split], ...] = (("trainval", "train"), ("test", "test"))


def _by_path(top: str, train: str, test: str) -> Reader:
    """A reader of two lists of ``class/file``, whose images are below a folder."""

    def read(root: Path, dataset: Published) -> Listing:
        lists: tuple[tuple[str, Split], ...] = ((train, "train"), (test, "test"))
        rows: list[Row] = [
            (f"{top}/{line}", line.partition("/")[0], split)
            for name, split in lists
            for line in lines_of(root, name, dataset)
        ]
        return listing_of(root, dataset, rows, sorted({key for _, key, _ in rows}))

    return read


# Two lists of ``id class species breed``; the class counts from 1 (Oxford Pets).
def _pets(root: Path, dataset: Published) -> Listing:
    numbers: dict[int, set[str]] = {}
    found: list[tuple[str, int, Split]] = []
    for name, split in _TWO:
        for line in lines_of(root, f"annotations/{name}.txt", dataset):
            if line.startswith("#"):
                continue
            identifier, number = line.split()[:2]
            numbers.setdefault(int(number), set()).add(identifier.rpartition("_")[0])
            found.append((identifier, int(number), split))
    for label, names in numbers.items():
        if len(names) != 1:
            raise WrongListing(
                f"class {label} of data set {dataset.name!r} has images of "
                f"{' and '.join(sorted(names))}: the list is not the official one."
            )
    keys = {number: min(names) for number, names in numbers.items()}
    rows: list[Row] = [(f"images/{one}.jpg", keys[number], split) for one, number, split in found]
    return listing_of(root, dataset, rows, [keys[number] for number in sorted(keys)])


# Four lists, joined by the number of the image or of the class (CUB-200-2011).
def _birds(root: Path, dataset: Published) -> Listing:
    top = "CUB_200_2011"
    tables = [
        dict(line.split(maxsplit=1) for line in lines_of(root, f"{top}/{name}", dataset))
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    ]
    paths, labels, training, classes = tables
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
    return listing_of(root, dataset, rows, [classes[number] for number in sorted(classes, key=int)])


# Two lists of ``id variant``, where a variant may hold blanks (FGVC Aircraft).
def _aircraft(root: Path, dataset: Published) -> Listing:
    top = "fgvc-aircraft-2013b/data"
    rows: list[Row] = []
    for name, split in _TWO:
        for line in lines_of(root, f"{top}/images_variant_{name}.txt", dataset):
            identifier, _, variant = line.partition(" ")
            rows.append((f"{top}/images/{identifier}.jpg", variant, split))
    return listing_of(root, dataset, rows, sorted(lines_of(root, f"{top}/variants.txt", dataset)))


LAYOUTS: dict[str, Reader] = {
    "listed_paths": _by_path("Images", "TrainImages.txt", "TestImages.txt"),  # MIT-67.
    "birds_2010": _by_path("images", "lists/train.txt", "lists/test.txt"),  # CUB-200.
    "pets": _pets,
    "birds": _birds,
    "aircraft": _aircraft,
}
