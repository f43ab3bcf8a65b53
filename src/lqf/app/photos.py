"""Photographs in folders, read as the workflow reads them."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from lqf.data.decode import Undecodable, decode
from lqf.data.own_folder import RUBBISH, SPLIT_NAMES

log = logging.getLogger(__name__)

_THUMBNAIL = 96


@dataclass(frozen=True)
class Photos:
    """Images of one size with where they come from.

    Attributes:
        files: Paths as the user will know them, relative to the folder that was read.
        pixels: M × S × S × 3.
        labels: Class of each, M; −1 where it has none.
        splits: train, val or test.
        hashes: SHA-256 of each file.
        classes: Names of the classes.
        unreadable: Files that are no image, and why.
    """

    files: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: tuple[str, ...]
    hashes: tuple[str, ...]
    classes: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.files)

    @property
    def left_out(self) -> list[str]:
        """Files that are no image, and why, in words."""
        return [f"{file}: {why}" for file, why in self.unreadable]

    def at(self, places: Sequence[int] | NDArray[np.int64]) -> Photos:
        """Returns some of them, in the order of their places."""
        rows = [int(place) for place in places]
        texts = (self.files, self.splits, self.hashes)
        files, splits, hashes = (tuple(text[i] for i in rows) for text in texts)
        return Photos(files, self.pixels[rows], self.labels[rows], splits, hashes, self.classes)

    def and_(self, others: Photos) -> Photos:
        """Returns these and others of the same classes."""
        return Photos(
            self.files + others.files,
            np.concatenate([self.pixels, others.pixels]),
            np.concatenate([self.labels, others.labels]),
            self.splits + others.splits,
            self.hashes + others.hashes,
            self.classes,
        )

    def split(self, *names: str) -> Photos:
        """Returns those of some splits."""
        return self.at([i for i, split in enumerate(self.splits) if split in names])


def read_folder(folder: Path, size: int, classes: Sequence[str] | None = None) -> Photos:
    """Read ``FOLDER/CLASS/*``, or ``FOLDER/{train,val,test}/CLASS/*``.

    Args:
        folder: The folder. Names that begin with a point are passed over.
        size: Height and width of the result, S.
        classes: The classes of a model, where those of the folder must be among them.

    Returns:
        The images, by class and name; without splits all are ``train``.

    Raises:
        ValueError: If there is no such folder, no class in it, no image, or a class too many.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give one that holds CLASS/*.jpg.")
    tops = {one: SPLIT_NAMES.get(one.name.lower(), "") for one in _folders(folder)}
    tops = {one: split for one, split in tops.items() if split}
    if "train" not in tops.values() and classes is None:
        tops = {}
    found = [
        (file, place.name, split)
        for top, split in (tops or {folder: "train"}).items()
        for place in _folders(top)
        for file in sorted(place.rglob("*"))
        if _is_ours(file, place)
    ]
    if not found:
        raise ValueError(
            f"{folder} holds no images in folders of classes: it needs CLASS/*.jpg, or "
            "train/CLASS/*.jpg and test/CLASS/*.jpg."
        )
    names = tuple(sorted({name for _, name, _ in found})) if classes is None else tuple(classes)
    for _, name, _ in found:
        if name not in names:
            raise ValueError(
                f"{folder} has the class {name!r}, which the model does not know: it knows "
                f"{', '.join(names)}."
            )
    labels = [names.index(name) for _, name, _ in found]
    return _read(
        [file for file, _, _ in found], labels, [s for *_, s in found], names, size, folder
    )


def read_images(paths: Iterable[Path], size: int) -> Photos:
    """Read single images, and all that lie in folders among them.

    Raises:
        ValueError: If a path does not exist, or none is an image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if _is_ours(file, path))
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"there is no file or folder {path}: give images that exist.")
    return _read(files, [-1] * len(files), ["test"] * len(files), (), size, Path())


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """A small JPEG of an image.

    Args:
        pixels: S × S × 3.
    """
    image = Image.fromarray(pixels)
    if image.width < _THUMBNAIL:
        image = image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _read(
    files: Sequence[Path],
    labels: Sequence[int],
    splits: Sequence[str],
    classes: tuple[str, ...],
    size: int,
    root: Path,
) -> Photos:
    kept: list[int] = []
    pixels: list[NDArray[np.uint8]] = []
    hashes: list[str] = []
    unreadable: list[tuple[str, str]] = []
    names = [file.relative_to(root).as_posix() if root != Path() else str(file) for file in files]
    for i, file in enumerate(tqdm(files, desc="read", disable=None, leave=False)):
        try:
            data = file.read_bytes()
            image = decode(data, size)
        except (OSError, Undecodable) as error:
            unreadable.append((names[i], str(error)))
            continue
        if image.truncated:
            log.warning("%s ends early; the missing rows are grey", names[i])
        kept.append(i)
        pixels.append(image.pixels)
        hashes.append(hashlib.sha256(data).hexdigest())
    if unreadable:
        first, why = unreadable[0]
        log.warning(
            "%d files are no images and are left out, as %s: %s", len(unreadable), first, why
        )
    if not kept:
        raise ValueError(
            "none of the files is an image that can be read"
            + (f", as {unreadable[0][0]}: {unreadable[0][1]}." if unreadable else ".")
        )
    return Photos(
        tuple(names[i] for i in kept),
        np.stack(pixels),
        np.array([labels[i] for i in kept], dtype=np.int64),
        tuple(splits[i] for i in kept),
        tuple(hashes),
        classes,
        tuple(unreadable),
    )


def _folders(top: Path) -> list[Path]:
    return sorted(one for one in top.iterdir() if one.is_dir() and not _hidden(one.name))


def _is_ours(file: Path, top: Path) -> bool:
    return file.is_file() and not any(map(_hidden, file.relative_to(top).parts))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in RUBBISH
