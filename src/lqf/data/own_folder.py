"""The images in a user's folder: SPLIT/CLASS/FILE, and a reason for every file that is not used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lqf.data.catalogue import SPLITS, Split
from lqf.data.kinds import kind_of_file, named_like_an_image
from lqf.data.listing import Entry, Listing, WrongListing

#: What the folder of a split may be called, in small letters.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
#: What notebooks, photo servers, archives of macOS and recycle bins leave beside images.
RUBBISH = {"@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
RUBBISH |= {"__macosx", "thumbs.db", "desktop.ini"}


def list_folder(name: str, root: Path) -> Listing:
    """List images by their folders.

    Args:
        name: Name of the data set.
        root: Folder with a folder for each split (``valid``, ``Test`` and the like are understood),
            in which each class has a folder.

    Returns:
        The images. What else is there is counted by the reason why it is not used.

    Raises:
        WrongListing: If there are no training images, if a class is only tested on, if two folders
            are the same split, or if a link leads nowhere.
    """
    walk = _Walk(root)
    splits = _splits(name, walk)
    if "train" not in splits:
        raise WrongListing(
            f"data set {name!r} has no folder {root / 'train'}: put the images into "
            f"{root / 'train' / 'CLASS'}, a folder for each class."
        )
    found: list[tuple[str, str, Split]] = []
    classes: set[str] = set()
    for split in (one for one in SPLITS if one in splits):
        for place in walk.visible(splits[split].path):
            if not place.is_dir():
                walk.leave(place, "beside the folders of the classes")
                continue
            if split == "train":
                classes.add(place.name)
            elif place.name not in classes:
                raise WrongListing(
                    f"data set {name!r} has the class {place.name!r} in {splits[split].name} but not "
                    f"in {splits['train'].name}: add images there, or remove {place.path}."
                )
            found += [(path, place.name, split) for path in walk.images(place.path)]
    names = sorted(classes)
    labels = {key: label for label, key in enumerate(names)}
    entries = tuple(Entry(path, labels[key], split) for path, key, split in found)
    return Listing(tuple(names), entries, len(entries), walk.left_out())


def _splits(name: str, walk: _Walk) -> dict[Split, os.DirEntry[str]]:
    found: dict[Split, os.DirEntry[str]] = {}
    for one in walk.visible(walk.root) if walk.root.is_dir() else ():
        split = SPLIT_NAMES.get(one.name.lower()) if one.is_dir() else None
        if split is None:
            if one.is_dir() or named_like_an_image(one.name):
                walk.leave(one, "beside the folders train, val and test")
        elif split in found:
            raise WrongListing(
                f"data set {name!r} has {found[split].path} and {one.path}, which are both for {split}: "
                "put their images together, or take one of them away."
            )
        else:
            found[split] = one
    return found


class _Walk:
    """Goes through folders in the order of names, and notes what it passes over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._passed: dict[str, list[str]] = {}

    def leave(self, one: os.DirEntry[str], why: str) -> None:
        self._passed.setdefault(why, []).append(self._inside(one))

    def left_out(self) -> dict[str, int]:
        """Reason, with the first file or folder that it holds for -> how many."""
        return {
            f"{why} (first {paths[0] if paths[0].isprintable() else repr(paths[0])})": len(paths)
            for why, paths in self._passed.items()
        }

    # What is in a folder and is not left there by a system.
    def visible(self, folder: Path | str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda one: one.name)
        except OSError as error:
            raise WrongListing(
                f"the folder {folder} cannot be read ({error.strerror}): see that this user may read it."
            ) from None
        for one in entries:
            if one.name.startswith(".") or one.name.lower() in RUBBISH:
                self.leave(one, "hidden files and folders")
                continue
            try:
                one.name.encode()
            except UnicodeEncodeError:
                raise WrongListing(
                    f"{os.fsencode(one.path)!r} has a name that is not UTF-8: rename it."
                ) from None
            if one.is_symlink() and not os.path.exists(one.path):
                raise WrongListing(
                    f"{one.path} is a link to {os.readlink(one.path)!r}, which is not there: bring that "
                    "back, or remove the link."
                )
            yield one

    def images(self, folder: str) -> Iterator[str]:
        """Images below a folder, relative to the root."""
        for one in self.visible(folder):
            if one.is_dir(follow_symlinks=False):
                yield from self.images(one.path)
            elif not one.is_file():
                self.leave(one, "no plain files within a class")
            elif named_like_an_image(one.name) or (kind := kind_of_file(one.path)) == "image":
                yield self._inside(one)
            elif kind == "HEIC":
                self.leave(one, "HEIC images, which have to be saved as JPEG")
            else:
                self.leave(one, "no images")

    def _inside(self, one: os.DirEntry[str]) -> str:
        return Path(one.path).relative_to(self.root).as_posix()
