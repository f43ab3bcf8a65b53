"""Readers of the files of each data set: which image has which label and belongs to which split.

A reader gets the folder of unpacked archives and the catalogue's entry. It never relies on the order
in which files or lines come: lists are joined by name or number, and names are sorted by code point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from lqf.data.catalogue import Split
from lqf.data.kinds import named_like_an_image
from lqf.data.listing import Entry, Listing, WrongListing, class_names
from lqf.data.published import CatalogueError, Published
from lqf.nearest import nearest

_Reader = Callable[[Path, Published], Listing]
_Row = tuple[str, str, Split]
"""Path, class, split."""


def _images_under(root: Path) -> list[str]:
    """List image files by the end of their names, relative to a folder, sorted by code point."""
    found = (one for one in root.rglob("*") if named_like_an_image(one.name) and one.is_file())
    return sorted(one.relative_to(root).as_posix() for one in found)


# Return a file of the archives.
def _file(root: Path, name: str, dataset: Published) -> Path:
    if not (root / name).is_file():
        raise WrongListing(
            f"the archives of data set {dataset.name!r} do not hold {name!r}: they are not complete, or "
            "of another edition; get them again."
        )
    return root / name


# Return the lines of a list that are not empty, without what surrounds them.
def _lines_of(root: Path, name: str, dataset: Published) -> list[str]:
    try:
        text = _file(root, name, dataset).read_text("utf-8")
    except UnicodeDecodeError:
        raise WrongListing(
            f"{name!r} of data set {dataset.name!r} is no text: get its archive again."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _readable(key: str) -> str:
    """Write a class without its number: ``001.Black_footed_Albatross`` is Black footed Albatross."""
    number, dot, name = key.partition(".")
    return (name if dot and number.isdigit() else key).replace("_", " ")


# Make a listing of what a data set's own lists say.
def _listing_of(
    root: Path,
    dataset: Published,
    rows: Sequence[_Row],
    keys: Sequence[str],
    display: Callable[[str], str] = _readable,
) -> Listing:
    labels = {key: label for label, key in enumerate(keys)}
    for path, key, _ in rows:
        if key not in labels:
            raise WrongListing(
                f"{path!r} of data set {dataset.name!r} has class {key!r}, which is not among its "
                f"{len(keys)} classes: the archive is not complete."
            )
    there = {*_images_under(root)}
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


def _by_folder(display: Callable[[str], str]) -> _Reader:
    """A reader of ``TOP/CLASS/*``, without a split."""

    def read(root: Path, dataset: Published) -> Listing:
        paths = _images_under(root)
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
    paths = _images_under(root)
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


_TWO: tuple[tuple[str, Split], ...] = (("trainval", "train"), ("test", "test"))


def _by_path(top: str, train: str, test: str) -> _Reader:
    """A reader of two lists of ``class/file``, whose images are below a folder."""

    def read(root: Path, dataset: Published) -> Listing:
        lists: tuple[tuple[str, Split], ...] = ((train, "train"), (test, "test"))
        rows: list[_Row] = [
            (f"{top}/{line}", line.partition("/")[0], split)
            for name, split in lists
            for line in _lines_of(root, name, dataset)
        ]
        return _listing_of(root, dataset, rows, sorted({key for _, key, _ in rows}))

    return read


# Two lists of ``id class species breed``; the class counts from 1 (Oxford Pets).
def _pets(root: Path, dataset: Published) -> Listing:
    numbers: dict[int, set[str]] = {}
    found: list[tuple[str, int, Split]] = []
    for name, split in _TWO:
        for line in _lines_of(root, f"annotations/{name}.txt", dataset):
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
    rows: list[_Row] = [(f"images/{one}.jpg", keys[number], split) for one, number, split in found]
    return _listing_of(root, dataset, rows, [keys[number] for number in sorted(keys)])


# Four lists, joined by the number of the image or of the class (CUB-200-2011).
def _birds(root: Path, dataset: Published) -> Listing:
    top = "CUB_200_2011"
    tables = [
        dict(line.split(maxsplit=1) for line in _lines_of(root, f"{top}/{name}", dataset))
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    ]
    paths, labels, training, classes = tables
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
    return _listing_of(
        root, dataset, rows, [classes[number] for number in sorted(classes, key=int)]
    )


# Two lists of ``id variant``, where a variant may hold blanks (FGVC Aircraft).
def _aircraft(root: Path, dataset: Published) -> Listing:
    top = "fgvc-aircraft-2013b/data"
    rows: list[_Row] = []
    for name, split in _TWO:
        for line in _lines_of(root, f"{top}/images_variant_{name}.txt", dataset):
            identifier, _, variant = line.partition(" ")
            rows.append((f"{top}/images/{identifier}.jpg", variant, split))
    return _listing_of(root, dataset, rows, sorted(_lines_of(root, f"{top}/variants.txt", dataset)))


# Two lists of ``n0…-Breed/file``; classes are sorted (Stanford Dogs).
def _dogs(root: Path, dataset: Published) -> Listing:
    rows: list[_Row] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        paths = _array(root, f"{split}_list.mat", dataset, "file_list")
        rows += [(f"Images/{path}", str(path).partition("/")[0], split) for path in paths]
    keys = sorted({key for _, key, _ in rows})
    return _listing_of(
        root, dataset, rows, keys, lambda key: key.partition("-")[2].replace("_", " ")
    )


# Labels 1 to 102 by image number, and the numbers of each split (Flowers-102).
def _flowers(root: Path, dataset: Published) -> Listing:
    labels = _array(root, "imagelabels.mat", dataset, "labels").astype(int)
    if labels.min() != 1:
        raise WrongListing(
            f"the labels of data set {dataset.name!r} begin at {labels.min()}, not at 1: "
            "imagelabels.mat is not the official one."
        )
    keys: dict[Split, str] = {"train": "trnid", "val": "valid", "test": "tstid"}
    rows: list[_Row] = [
        (f"jpg/image_{number:05d}.jpg", str(labels[number - 1]), split)
        for split, key in keys.items()
        for number in _array(root, "setid.mat", dataset, key).astype(int)
    ]
    numbers = [str(number) for number in range(1, dataset.classes + 1)]
    return _listing_of(root, dataset, rows, numbers, lambda n: dataset.class_names[int(n) - 1])


# Images and annotations, joined by file name, each part with its own (Stanford Cars).
# The row order of the annotations is not that of the files, and cars_annos.mat numbers the same
# images in yet another order, so neither is used.
def _cars(root: Path, dataset: Published) -> Listing:
    names = [str(one) for one in _array(root, "devkit/cars_meta.mat", dataset, "class_names")]
    parts: dict[Split, str] = {
        "train": "devkit/cars_train_annos.mat",
        "test": "cars_test_annos_withlabels.mat",
    }
    rows: list[_Row] = []
    for split, file in parts.items():
        for one in _array(root, file, dataset, "annotations"):
            rows.append((f"cars_{split}/{one['fname']}", str(int(one["class"])), split))
    listed = {path for path, _, _ in rows}
    if strangers := [path for path in _images_under(root) if path not in listed]:
        raise WrongListing(
            f"{strangers[0]!r} of data set {dataset.name!r} has no annotation in "
            f"{' or '.join(parts.values())}: the archives belong to different editions."
        )
    numbers = [str(number) for number in range(1, len(names) + 1)]
    return _listing_of(root, dataset, rows, numbers, lambda number: names[int(number) - 1])


# One array of a file, N; scipy reads numbers, text and structures, and runs nothing of them.
def _array(root: Path, name: str, dataset: Published, key: str) -> Any:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    file = _file(root, name, dataset)
    try:
        return loadmat(file, squeeze_me=True)[key].ravel()
    except (KeyError, MatReadError, NotImplementedError, TypeError, ValueError, OSError) as error:
        raise WrongListing(
            f"{name!r} of data set {dataset.name!r} cannot be read ({type(error).__name__}: {error}): get "
            "it again."
        ) from None


LAYOUTS: dict[str, _Reader] = {
    # NNN.name: the number is the label, from 1 on (Caltech-256).
    "numbered_folders": _by_folder(lambda key: key.partition(".")[2]),
    "class_folders": _by_folder(str),  # Malaria.
    "split_folders": _split_folders,
    "listed_paths": _by_path("Images", "TrainImages.txt", "TestImages.txt"),  # MIT-67.
    "birds_2010": _by_path("images", "lists/train.txt", "lists/test.txt"),  # CUB-200.
    "pets": _pets,
    "birds": _birds,
    "aircraft": _aircraft,
    "dogs": _dogs,
    "flowers": _flowers,
    "cars": _cars,
}
"""Name in the catalogue -> reader."""


def read_layout(root: Path, dataset: Published) -> Listing:
    """List the images of a data set.

    Returns:
        Its images; those without an official split have none.

    Raises:
        CatalogueError: If the catalogue names a reader that does not exist.
    """
    if dataset.layout not in LAYOUTS:
        raise CatalogueError(
            f"catalogue key 'datasets.{dataset.name}.layout' is {dataset.layout!r}: "
            f"{nearest(dataset.layout, LAYOUTS)}"
        )
    return LAYOUTS[dataset.layout](root, dataset)
