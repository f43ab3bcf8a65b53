"""Unpack archives into a folder, and nothing outside it.

Only plain files that a pattern names are written: no link is made or followed. Names that are absolute
or climb out of the folder, links and devices in the place of files, and content beyond the stated size
are refused, whatever the archive says of itself.
A backslash separates folders, as in archives that were made on Windows.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

RUBBISH = ("__MACOSX/**", "**/.DS_Store", "**/._*", "**/Thumbs.db")
"""What operating systems leave in archives."""

_CHUNK = 1 << 20
_BUFFER = 1 << 16
_LINK = 0o120000
# How compressed archives begin. tarfile's own streams do not check the sum of gzip.
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0\x80": lzma.open,
}
# So many files are allowed whatever their size, and one more for each so many bytes of the limit.
_FREE, _LEAST = 10_000, 512
_ENCRYPTED = 0x1
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, RuntimeError, LookupError, struct.error, OverflowError),
)
"""What the readers of the standard library raise on content that is not as it should be."""
# Names that no disk can hold: one is a file and a folder at once, or too long.
_BAD_NAMES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


class UnsafeArchive(ValueError):
    """An archive that would write outside its folder or past its size; nothing of it is used."""


_Member = tuple[str, IO[bytes] | None]
"""Name, and content of a plain file."""


def kind_of(path: Path) -> Literal["tar", "zip"] | None:
    """Tell an archive by its content; None if it is no archive."""
    # A tar may end with a zip that it holds, so it is asked first.
    try:
        if tarfile.is_tarfile(path):
            return "tar"
    except (EOFError, OSError, zlib.error, lzma.LZMAError):
        return "tar"  # Compressed, and damaged at its very beginning.
    return "zip" if zipfile.is_zipfile(path) else None


def unpack(
    archive: Path,
    folder: Path,
    *,
    limit: int | None,
    take: Iterable[str] = ("**",),
    junk: Iterable[str] = (),
    move: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Unpack an archive, or copy a file that is none.

    Args:
        archive: A tar (compressed or not), a zip, or any other file.
        folder: Where to write.
        limit: Bytes that the written files may have together; None for a file that is no archive.
        take: Patterns of the files to write, after `move`.
        junk: Patterns of files to skip and count; `RUBBISH` is always skipped.
        move: Folders that the archive calls differently: its name -> the name to use; ``.`` is the
            top.

    Returns:
        How many files each pattern of rubbish has skipped.

    Raises:
        UnsafeArchive: If the archive is not safe to unpack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if limit is None:
        # A hard link costs nothing; another file system needs the copy.
        try:
            (folder / archive.name).hardlink_to(archive.resolve())
        except OSError:
            shutil.copyfile(archive, folder / archive.name)
        return Counter()
    kind = kind_of(archive)
    if kind is None:
        raise UnsafeArchive(f"{archive} is neither a tar nor a zip archive: download it again.")
    wanted, rubbish = ({one: _compile(one) for one in them} for them in (take, [*junk, *RUBBISH]))
    counted: Counter[str] = Counter()
    written = number = 0
    with _damage_told(archive):
        for inside, content in _tar(archive) if kind == "tar" else _zip(archive):
            name = _safe_name(inside, archive, move or {})
            skipped = next((one for one, found in rubbish.items() if found.fullmatch(name)), None)
            if skipped is not None:
                counted[skipped] += 1
            elif any(one.fullmatch(name) for one in wanted.values()):
                if content is None:
                    raise UnsafeArchive(
                        f"{archive} has {inside!r}, which is a link or a device where a file is "
                        "expected: it is not unpacked."
                    )
                written += _copy(content, folder / name, limit - written, archive, limit)
                number += 1
                if number > _FREE + limit // _LEAST:
                    raise UnsafeArchive(
                        f"{archive} holds more than {number - 1:,} files, too many for the {limit:,} "
                        "bytes that the catalogue allows: it is not unpacked further."
                    )
    return counted


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    try:
        yield
    except UnsafeArchive:
        raise
    except (OSError, *_DAMAGE) as error:
        # Without a number it is not the disk that failed but the content of the archive.
        number = error.errno if isinstance(error, OSError) else None
        if number is not None and number not in _BAD_NAMES:
            raise
        raise UnsafeArchive(f"{archive} is damaged ({error}): download it again.") from None


def _compile(pattern: str) -> re.Pattern[str]:
    meaning = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(meaning.get(one, re.escape(one)) for one in parts), re.DOTALL)


# Returns the name under which a member is written, relative to the folder.
def _safe_name(name: str, archive: Path, move: Mapping[str, str]) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts
    if outside or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise UnsafeArchive(
            f"{archive} has {name!r}, a name that leads out of its folder: it is not unpacked."
        )
    for old, new in move.items():
        if path.is_relative_to(old):
            return str(PurePosixPath(new) / path.relative_to(old))
    return str(path)


def _tar(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as file:
        start = file.read(len(max(_OPENERS, key=len)))
    opener = next((one for magic, one in _OPENERS.items() if start.startswith(magic)), open)
    # A stream keeps no list of its members; its buffer is copied at each read, so it is small.
    with opener(archive, "rb") as stream, tarfile.open(None, "r|", stream, _BUFFER) as tar:
        for one in tar:
            if not one.isdir():
                yield one.name, tar.extractfile(one) if one.isreg() else None
        # The sums of the compressed content stand behind what a tar takes for its end.
        while stream.read(_CHUNK):
            pass


def _zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as bundle:
        for one in bundle.infolist():
            if one.is_dir():
                continue
            if (one.external_attr >> 16) & 0o170000 == _LINK:
                yield one.filename, None
                continue
            if one.flag_bits & _ENCRYPTED:
                raise UnsafeArchive(
                    f"{archive} is locked with a password ({one.filename!r}): unpack it with the password "
                    "and pack it again without one."
                )
            try:
                content = bundle.open(one)
            except NotImplementedError:
                raise UnsafeArchive(
                    f"{archive} is compressed by a method that Python does not read (Deflate64, perhaps; "
                    f"the first file is {one.filename!r}): unpack it with 7-Zip or unzip, and pack it "
                    "again as an ordinary zip."
                ) from None
            with content:
                yield one.filename, content


def _copy(content: IO[bytes], target: Path, left: int, archive: Path, limit: int) -> int:
    size = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    # An archive may hold a name twice: the later one counts, as in tar itself.
    target.unlink(missing_ok=True)
    with target.open("xb", buffering=0) as out:
        while chunk := content.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise UnsafeArchive(
                    f"{archive} expands to more than the {limit:,} bytes that the catalogue allows: "
                    "it is not unpacked further."
                )
            out.write(chunk)
    return size
