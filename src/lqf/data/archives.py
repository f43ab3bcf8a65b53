"""Bring together the archives of a data set: those that are on disk already, then downloads.

The folder of a data set gets its downloads and, when everything is there and verified,
``archives.json``: which files to unpack, with their digests. It appears last, so it never speaks of
a file that is not whole.

Digests that nobody has published are noted at the first good download and required afterwards, in
datasets.lock.json beside the catalogue, which is meant to be committed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lqf.data.published import CatalogueError, File, Published, Weights
from lqf.data.unpack import kind_of
from lqf.files import digest_of, write_text
from lqf.provenance import sealed, unsealed

MANIFEST = "archives.json"
_LOG = logging.getLogger(__name__)
_Found = tuple[File, dict[str, Any]]
"""What the catalogue or the lock file says of a verified file, and what the manifest says."""


class WrongFile(ValueError):
    """A file is there but is not the one that is meant; the message shows what differs."""


def verify(path: Path, file: File, origin: str) -> None:
    """Refuse a file that differs from what the catalogue says.

    Raises:
        WrongFile: If size, digest or kind is not right.
    """
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise WrongFile(
            f"{file.name} from {origin} has {size:,} bytes, but the catalogue says {file.bytes:,}."
        )
    if file.digest is not None:
        algorithm, wanted = file.digest
        found = digest_of(path, algorithm)
        if not found.startswith(wanted):
            ending = "" if len(found) == len(wanted) else "…"
            raise WrongFile(
                f"{file.name} from {origin} has {algorithm} {found}, but the catalogue says "
                f"{wanted}{ending}."
            )
    elif file.unpacked is not None and kind_of(path) is None:
        raise WrongFile(
            f"{file.name} from {origin} is neither a tar nor a zip archive (a page that asks to log "
            "in, perhaps)."
        )


def local_folders() -> list[Path]:
    """List the folders in which archives may already be, those of LQF_DATA (written as in PATH).

    Raises:
        ValueError: If one of them does not exist.
    """
    named = os.environ.get("LQF_DATA", "").split(os.pathsep)
    folders = [Path(one) for one in named if one]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"the folder {folder} for local archives does not exist: create it, or correct "
                "LQF_DATA."
            )
    return folders


def candidates(name: str, file: File, folders: Iterable[Path]) -> Iterator[Path]:
    """List where a file of a data set is on disk: in FOLDER/NAME or in FOLDER."""
    for folder in folders:
        for path in (folder / name / file.name, folder / file.name):
            if path.is_file():
                yield path


def obtain(
    dataset: Published | Weights,
    folder: Path,
    *,
    local: Sequence[Path] = (),
    lock: Path,
    attempts: int = 6,
    offline: bool = False,
) -> Path:
    """Have all archives of a data set, verified.

    Raises:
        ValueError: If a part can neither be found nor downloaded; the message says what to put where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder, *local]
    found: list[_Found] = []
    for part, choices in dataset.parts.items():
        chosen = [
            [pinned(file, f"{dataset.name}/{file.name}", lock) for file in choice]
            for choice in choices
        ]
        files = _on_disk(dataset.name, chosen, places)
        found += files or _downloaded(dataset, part, chosen, places, attempts, offline)
    for file, entry in found:
        if file.digest is None:
            noted = {key: entry[key] for key in ("bytes", "sha256", "from")}
            pin(f"{dataset.name}/{file.name}", lock, noted)
    manifest = folder / MANIFEST
    whole = sealed({"name": dataset.name, "files": [entry for _, entry in found]})
    write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", manifest)
    return manifest


def read_manifest(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read what `obtain` has brought together.

    Raises:
        ValueError: If the manifest or a file is missing, or a bit of one differs.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ValueError(
            f"there are no archives in {folder}: run `python -m lqf download` with this folder as "
            "its output."
        )
    found = unsealed(manifest)
    if found is None:
        raise ValueError(f"{manifest} is damaged or was edited: remove it and download again.")
    files = [(folder / entry["path"], entry) for entry in found["files"]]
    for path, entry in files:
        if not path.is_file() or digest_of(path) != entry["sha256"]:
            raise ValueError(
                f"{manifest} names {path}, which is missing or has changed: remove the manifest and "
                "download again."
            )
    return files


def lock_file(catalogue: Path) -> Path:
    """Name the file that belongs to a catalogue."""
    return catalogue.with_suffix(".lock.json")


def pinned(file: File, key: str, lock: Path) -> File:
    """Fill in digest and size that an earlier download has noted, if the catalogue has no digest."""
    if file.digest is not None or (entry := _pins(lock).get(key)) is None:
        return file
    return dataclasses.replace(file, bytes=entry["bytes"], sha256=entry["sha256"])


def pin(key: str, lock: Path, entry: Mapping[str, Any]) -> None:
    """Note bytes, sha256 and origin of a file."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(lock.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            # NFS locks no folders. A note that is lost is made again by the next download.
            _LOG.warning(
                "the file system of %s knows no locks (%s): of two downloads that end at once, one may "
                "not be noted.",
                lock.parent,
                error.strerror,
            )
        entries = {**_pins(lock), key: dict(entry)}
        write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", lock)
    finally:
        os.close(folder)


def _pins(lock: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(lock.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CatalogueError(f"{lock} is not a lock file: {error}; restore or remove it.") from None


def _on_disk(name: str, choices: Sequence[Sequence[File]], places: Sequence[Path]) -> list[_Found]:
    """Returns the first choice of which every file is on disk."""
    for choice in choices:
        files = [one for file in choice if (one := _local(name, file, places)) is not None]
        if len(files) == len(choice):
            return files
    return []


# Return the copy that is on disk, if there is one.
def _local(name: str, file: File, places: Sequence[Path]) -> _Found | None:
    for path in candidates(name, file, places):
        try:
            verify(path, file, str(path))
        except WrongFile as error:
            if path.parent.name == name:
                raise WrongFile(f"{error} Replace this copy, or remove it.") from None
            # Several data sets call a file images.tgz; in a common folder this may be another's.
            _LOG.warning("%s It is not used.", error)
            continue
        return _found(file, path, "local", places[0])
    return None


def _found(file: File, path: Path, origin: str, folder: Path) -> _Found:
    return file, {
        "name": file.name,
        "path": path.name if path.parent == folder else str(path.resolve()),
        "bytes": path.stat().st_size,
        "sha256": file.sha256 or digest_of(path),
        "from": origin,
        "unpacked": file.unpacked,
        "move": dict(file.move),
    }


def _downloaded(
    dataset: Published | Weights,
    part: str,
    choices: Sequence[Sequence[File]],
    places: Sequence[Path],
    attempts: int,
    offline: bool,
) -> list[_Found]:
    from lqf.data.transfer import NotObtained, download

    folder, reasons = places[0], ["downloads are switched off"] if offline else []
    for choice in choices if not offline else ():
        try:
            return [
                _local(dataset.name, file, places)
                or _found(file, *download(file, folder, attempts), folder)
                for file in choice
            ]
        except NotObtained as error:
            reasons.append(str(error))
    wanted = " or ".join(
        " and ".join(
            f"{file.name} ({' '.join(file.digest)})" if file.digest else file.name
            for file in choice
        )
        for choice in choices
    )
    kind = "weights" if isinstance(dataset, Weights) else f"part {part!r} of data set"
    raise ValueError(
        f"the {kind} {dataset.name!r} cannot be had ({'; '.join(reasons)}): put "
        f"{wanted} into {folder} or into a folder that LQF_DATA names, and run again."
    )
