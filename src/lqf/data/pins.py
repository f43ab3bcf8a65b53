"""Digests of files that nobody has published: noted at the first good download, required afterwards.

They are kept in datasets.lock.json beside the catalogue, which is meant to be committed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lqf.data.published import CatalogueError, File


def lock_file(catalogue: Path) -> Path:
    """Name the file that belongs to a catalogue."""
    return catalogue.with_suffix(".lock.json")


def pinned(file: File, key: str, path: Path) -> File:
    """Fill in what an earlier download has found.

    Returns:
        The file, with the digest and the size of the lock file if the catalogue has no digest.
    """
    if file.digest is not None or (entry := _read(path).get(key)) is None:
        return file
    return dataclasses.replace(file, bytes=entry["bytes"], sha256=entry["sha256"])


def pin(key: str, path: Path, *, size: int, sha256: str, origin: str) -> None:
    """Note the digest of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(path.parent):
        entries = _read(path)
        entries[key] = {"bytes": size, "sha256": sha256, "from": origin}
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", "utf-8")
        partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, ValueError) as error:
        raise CatalogueError(f"{path} is not a lock file: {error}; restore or remove it.") from None


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
