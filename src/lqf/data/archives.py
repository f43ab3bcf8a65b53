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
from pathlib import Path
from typing import Any

from lqf.data import pins
from lqf.data.folder import digest_of
from lqf.data.published import File, Published, Weights
from lqf.data.verify import WrongFile, verify
from lqf.pages import write_text
from lqf.provenance import sealed, unsealed

MANIFEST = "archives.json"
_LOG = logging.getLogger(__name__)
_Found = tuple[File, dict[str, Any]]
"""What the catalogue or the lock file says of a verified file, and what the manifest says."""


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
            [pins.pinned(file, f"{dataset.name}/{file.name}", lock) for file in choice]
            for choice in choices
        ]
        files = _on_disk(dataset.name, chosen, places)
        found += files or _downloaded(dataset, part, chosen, places, attempts, offline)
    for file, entry in found:
        if file.digest is None:
            pinned = {key: entry[key] for key in ("bytes", "sha256", "from")}
            pins.pin(f"{dataset.name}/{file.name}", lock, pinned)
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
    entry = {
        "name": file.name,
        "path": path.name if path.parent == folder else str(path.resolve()),
        "bytes": path.stat().st_size,
        "sha256": file.sha256 or digest_of(path),
        "from": origin,
        "unpacked": file.unpacked,
        "move": dict(file.move),
    }
    return file, entry


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
        " and ".join(file.name + _hint(file) for file in choice) for choice in choices
    )
    kind = "weights" if isinstance(dataset, Weights) else f"part {part!r} of data set"
    raise ValueError(
        f"the {kind} {dataset.name!r} cannot be had ({'; '.join(reasons)}): put "
        f"{wanted} into {folder} or into a folder that LQF_DATA names, and run again."
    )


def _hint(file: File) -> str:
    return f" ({file.digest[0]} {file.digest[1]})" if file.digest else ""
