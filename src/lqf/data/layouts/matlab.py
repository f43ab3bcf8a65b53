"""Data sets whose labels and splits are in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lqf.data.catalogue import Split
from lqf.data.layouts.files import Row, images_under, listing_of, require, require_all
from lqf.data.listing import Entry, Listing, WrongListing
from lqf.data.published import Published


def dogs(root: Path, dataset: Published) -> Listing:
    """Read the paths ``n0…-Breed/file`` of two lists; classes are sorted (Stanford Dogs).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.
    """
    rows: list[Row] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        paths = _read(root, f"{split}_list.mat", dataset)["file_list"].ravel()
        rows += [(f"Images/{path}", str(path).partition("/")[0], split) for path in paths]
    keys = sorted({key for _, key, _ in rows})
    return listing_of(
        root, dataset, rows, keys, lambda key: key.partition("-")[2].replace("_", " ")
    )


def flowers(root: Path, dataset: Published) -> Listing:
    """Read the labels 1 to 102 by image number, and the numbers of each split (Flowers-102).

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.

    Raises:
        WrongListing: If the labels do not begin at 1.
    """
    labels = _read(root, "imagelabels.mat", dataset)["labels"].ravel().astype(int)
    numbers = _read(root, "setid.mat", dataset)
    if labels.min() != 1:
        raise WrongListing(
            f"the labels of data set {dataset.name!r} begin at {labels.min()}, not at 1: "
            "imagelabels.mat is not the official one."
        )
    splits: tuple[tuple[str, Split], ...] = (
        ("trnid", "train"),
        ("valid", "val"),
        ("tstid", "test"),
    )
    entries = [
        Entry(f"jpg/image_{number:05d}.jpg", int(labels[number - 1]) - 1, split)
        for key, split in splits
        for number in numbers[key].ravel().astype(int)
    ]
    names = dataset.class_names or tuple(f"flower {n}" for n in range(1, dataset.classes + 1))
    require_all(root, [(one.path, names[one.label]) for one in entries], dataset.name)
    return Listing(names, tuple(entries), len(images_under(root)))


def cars(root: Path, dataset: Published) -> Listing:
    """Join images and annotations by file name, each part with its own (Stanford Cars).

    The row order of the annotations is not that of the files, and cars_annos.mat numbers the same
    images in yet another order, so neither is used.

    Args:
        root: The folder of unpacked archives.
        dataset: The catalogue's entry.

    Returns:
        The images with their splits.

    Raises:
        WrongListing: If an image has no annotation.
    """
    names = tuple(
        str(one) for one in _read(root, "devkit/cars_meta.mat", dataset)["class_names"].ravel()
    )
    entries = []
    parts: tuple[tuple[Split, str], ...] = (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    )
    for split, file in parts:
        annotations = _read(root, file, dataset)["annotations"].ravel()
        labels = {str(one["fname"]): int(one["class"]) - 1 for one in annotations}
        paths = images_under(root, f"cars_{split}")
        for path in paths:
            if (name := path.rpartition("/")[2]) not in labels:
                raise WrongListing(
                    f"{path!r} of data set {dataset.name!r} has no annotation in {file}: the archives "
                    "belong to different editions."
                )
            entries.append(Entry(path, labels[name], split))
        require_all(
            root,
            [(f"cars_{split}/{name}", names[label]) for name, label in labels.items()],
            dataset.name,
        )
    return Listing(names, tuple(entries), len(entries))


def _read(root: Path, name: str, dataset: Published) -> dict[str, Any]:
    from scipy.io import loadmat

    require(root, name, dataset.name)
    # scipy reads numbers, text and structures; it runs nothing that a file holds.
    content: dict[str, Any] = loadmat(root / name, squeeze_me=True)
    return content
