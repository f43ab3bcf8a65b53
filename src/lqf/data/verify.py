"""Whether a file on disk is the one that the catalogue means."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from lqf.data.folder import digest_of
from lqf.data.published import File


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


def kind_of(path: Path) -> Literal["tar", "zip"] | None:
    """Tell an archive by its content.

    Returns:
        Its kind, or None if it is no archive.
    """
    # A tar may end with a zip that it holds, so it is asked first.
    try:
        if tarfile.is_tarfile(path):
            return "tar"
    except (EOFError, OSError, zlib.error, lzma.LZMAError):
        return "tar"  # Compressed, and damaged at its very beginning.
    return "zip" if zipfile.is_zipfile(path) else None
