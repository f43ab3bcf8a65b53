"""Data sets whose labels and splits are in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lqf.data.catalogue import Split
from lqf.data.layouts.files import Reader, Row, images_under, listing_of, require
from lqf.data.listing import Listing, WrongListing
from lqf.data.published import Published


# Two lists of ``n0…-Breed/file``; classes are sorted (Stanford Dogs).
def _dogs(root: Path, dataset: Published) -> Listing:
    rows: list[Row] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        paths = _read(root, f"{split}_list.mat", dataset, "file_list")
        rows += [(f"Images/{path}", str(path).partition("/")[0], split) for path in paths]
    keys = sorted({key for _, key, _ in rows})
    return listing_of(
        root, dataset, rows, keys, lambda key: key.partition("-")[2].replace("_", " ")
    )


# Labels 1 to 102 by image number, and the numbers of each split (Flowers-102).
def _flowers(root: Path, dataset: Published) -> Listing:
    labels = _read(root, "imagelabels.mat", dataset, "labels").astype(int)
    if labels.min() != 1:
        raise WrongListing(
            f"the labels of data set {dataset.name!r} begin at {labels.min()}, not at 1: "
            "imagelabels.mat is not the official one."
        )
    keys: dict[Split, str] = {"train": "trnid", "val": "valid", "test": "tstid"}
    rows: list[Row] = [
        (f"jpg/image_{number:05d}.jpg", str(labels[number - 1]), split)
        for split, key in keys.items()
        for number in _read(root, "setid.mat", dataset, key).astype(int)
    ]
    numbers = [str(number) for number in range(1, dataset.classes + 1)]
    return listing_of(root, dataset, rows, numbers, lambda n: dataset.class_names[int(n) - 1])


# Images and annotations, joined by file name, each part with its own (Stanford Cars).
# The row order of the annotations is not that of the files, and cars_annos.mat numbers the same
# images in yet another order, so neither is used.
def _cars(root: Path, dataset: Published) -> Listing:
    names = [str(one) for one in _read(root, "devkit/cars_meta.mat", dataset, "class_names")]
    parts: dict[Split, str] = {
        "train": "devkit/cars_train_annos.mat",
        "test": "cars_test_annos_withlabels.mat",
    }
    rows: list[Row] = []
    for split, file in parts.items():
        for one in _read(root, file, dataset, "annotations"):
            rows.append((f"cars_{split}/{one['fname']}", str(int(one["class"])), split))
    listed = {path for path, _, _ in rows}
    if strangers := [path for path in images_under(root) if path not in listed]:
        raise WrongListing(
            f"{strangers[0]!r} of data set {dataset.name!r} has no annotation in "
            f"{' or '.join(parts.values())}: the archives belong to different editions."
        )
    numbers = [str(number) for number in range(1, len(names) + 1)]
    return listing_of(root, dataset, rows, numbers, lambda number: names[int(number) - 1])


# One array of a file, N; scipy reads numbers, text and structures, and runs nothing of them.
def _read(root: Path, name: str, dataset: Published, key: str) -> Any:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    require(root, name, dataset)
    try:
        return loadmat(root / name, squeeze_me=True)[key].ravel()
    except (KeyError, MatReadError, NotImplementedError, TypeError, ValueError, OSError) as error:
        raise WrongListing(
            f"{name!r} of data set {dataset.name!r} cannot be read ({type(error).__name__}: {error}): get "
            "it again."
        ) from None


LAYOUTS: dict[str, Reader] = {"dogs": _dogs, "flowers": _flowers, "cars": _cars}
