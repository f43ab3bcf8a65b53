"""Digests of files that nobody has published: noted at the first good download, required afterwards.

They are kept in datasets.lock.json beside the catalogue, which is meant to be committed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lqf.data.published import CatalogueError, File
from lqf.pages import write_text

log = logging.getLogger(__name__)


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


def pin(key: str, path: Path, entry: Mapping[str, Any]) -> None:
    """Note bytes, sha256 and origin of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            # NFS locks no folders. A note that is lost is made again by the next download.
            log.warning(
                "the file system of %s knows no locks (%s): of two downloads that end at once, one may "
                "not be noted.",
                path.parent,
                error.strerror,
            )
        entries = {**_read(path), key: dict(entry)}
        write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", path)
    finally:
        os.close(folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CatalogueError(f"{path} is not a lock file: {error}; restore or remove it.") from None
