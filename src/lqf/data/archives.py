"""Bring together the archives of a data set: those that are on disk already, then downloads.

The folder of a data set gets its downloads and, when everything is there and verified,
``archives.json``: which files to unpack, with their digests. It appears last, so it never speaks of
a file that is not whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lqf.data import pins
from lqf.data.published import File, Published, Weights
from lqf.data.verify import WrongFile, digest_of, verify

MANIFEST = "archives.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Obtained:
    """A verified file.

    Attributes:
        file: What the catalogue or the lock file says of it.
        path: Where it is.
        origin: The address, or ``local``.
        sha256: Its digest.
    """

    file: File
    path: Path
    origin: str
    sha256: str


def local_folders(named: Iterable[Path | str] = ()) -> list[Path]:
    """List the folders in which archives may already be.

    Returns:
        These, then those of LQF_DATA (separated like PATH).

    Raises:
        ValueError: If one of them does not exist.
    """
    environment = os.environ.get("LQF_DATA", "")
    folders = [Path(one) for one in (*named, *filter(None, environment.split(os.pathsep)))]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"the folder {folder} for local archives does not exist: create it, or correct "
                "LQF_DATA or the configuration."
            )
    return folders


def candidates(name: str, file: File, folders: Iterable[Path]) -> Iterator[Path]:
    """List the places where a file is on disk.

    Args:
        name: Name of the data set.
        file: The file.
        folders: Folders to look in: FOLDER/FILE and FOLDER/NAME/FILE.
    """
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
    progress: bool = True,
) -> Path:
    """Have all archives of a data set, verified.

    Raises:
        ValueError: If a part can neither be found nor downloaded; the message says what to put where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder, *local]
    found = []
    for part, choices in dataset.parts.items():
        chosen = [
            tuple(pins.pinned(file, f"{dataset.name}/{file.name}", lock) for file in choice)
            for choice in choices
        ]
        files = _on_disk(dataset.name, chosen, places)
        if files is None:
            files = _downloaded(dataset, part, chosen, places, folder, attempts, offline, progress)
        found += files
    for one in found:
        if one.file.digest is None:
            key = f"{dataset.name}/{one.file.name}"
            size = one.path.stat().st_size
            pins.pin(key, lock, size=size, sha256=one.sha256, origin=one.origin)
    return _write(dataset, folder, found)


def read_manifest(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read what `obtain` has brought together.

    Raises:
        ValueError: If the manifest or a file is missing, or a file has another size.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ValueError(
            f"there are no archives in {folder}: run `python -m lqf download` with this folder as "
            "its output."
        )
    entries = json.loads(manifest.read_text("utf-8"))["files"]
    files = [(folder / entry["path"], entry) for entry in entries]
    for path, entry in files:
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise ValueError(
                f"{manifest} names {path}, which is missing or has changed: remove the manifest and "
                "download again."
            )
    return files


def _on_disk(
    name: str, choices: Sequence[Sequence[File]], places: Sequence[Path]
) -> list[Obtained] | None:
    """Returns the first choice of which every file is on disk."""
    for choice in choices:
        files = [one for file in choice if (one := _local(name, file, places)) is not None]
        if len(files) == len(choice):
            return files
    return None


# Return the copy that is on disk, if there is one.
def _local(name: str, file: File, places: Sequence[Path]) -> Obtained | None:
    for path in candidates(name, file, places):
        try:
            verify(path, file, str(path))
        except WrongFile as error:
            if path.parent.name == name:
                raise WrongFile(f"{error} Replace this copy, or remove it.") from None
            # Several data sets call a file images.tgz; in a common folder this may be another's.
            _LOG.warning("%s It is not used.", error)
            continue
        return Obtained(file, path, "local", file.sha256 or digest_of(path))
    return None


def _downloaded(
    dataset: Published | Weights,
    part: str,
    choices: Sequence[Sequence[File]],
    places: Sequence[Path],
    folder: Path,
    attempts: int,
    offline: bool,
    progress: bool,
) -> list[Obtained]:
    from lqf.data.transfer import NotObtained, download

    reasons = ["downloads are switched off"] if offline else []

    def fetched(file: File) -> Obtained:
        path, url = download(file, folder, attempts=attempts, progress=progress)
        return Obtained(file, path, url, file.sha256 or digest_of(path))

    for choice in choices if not offline else ():
        try:
            return [_local(dataset.name, file, places) or fetched(file) for file in choice]
        except NotObtained as error:
            reasons.append(str(error))
    wanted = " or ".join(
        " and ".join(file.name + _hint(file) for file in choice) for choice in choices
    )
    kind = "weights" if isinstance(dataset, Weights) else f"part {part!r} of data set"
    raise ValueError(
        f"the {kind} {dataset.name!r} cannot be had ({'; '.join(reasons)}): put "
        f"{wanted} into {folder} or into a folder that LQF_DATA names, and run again."
    )


def _hint(file: File) -> str:
    return f" ({file.digest[0]} {file.digest[1]})" if file.digest else ""


def _write(dataset: Published | Weights, folder: Path, found: Sequence[Obtained]) -> Path:
    manifest = folder / MANIFEST
    entries = [
        {
            "name": one.file.name,
            "path": os.path.relpath(one.path, folder)
            if one.path.parent == folder
            else str(one.path.resolve()),
            "bytes": one.path.stat().st_size,
            "sha256": one.sha256,
            "from": one.origin,
            "unpacked": one.file.unpacked,
            "move": dict(one.file.move),
        }
        for one in found
    ]
    partial = manifest.with_name(f".{MANIFEST}.{os.getpid()}")
    text = json.dumps({"name": dataset.name, "files": entries}, indent=2, ensure_ascii=False)
    partial.write_text(text + "\n", "utf-8")
    partial.replace(manifest)
    return manifest
