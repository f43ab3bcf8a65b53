"""Unpack archives into a folder, and nothing outside it.

Only files that a pattern names are written. Names that are absolute or climb out of the folder,
links, devices, and content beyond the stated size are refused, whatever the archive says of itself.
A backslash separates folders, as in archives that were made on Windows.
"""

from __future__ import annotations

import errno
import lzma
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lqf.data.verify import kind_of

RUBBISH = ("__MACOSX/**", "**/.DS_Store", "**/._*", "**/Thumbs.db")
"""What operating systems leave in archives."""

_CHUNK = 1 << 20
_BUFFER = 1 << 16
_LINK = 0o120000
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


@dataclass(frozen=True)
class _Member:
    name: str
    link: str | None
    special: bool
    content: IO[bytes] | None


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
    wanted, skipped = _Patterns(take), _Patterns([*junk, *RUBBISH])
    folders: set[str] = set()
    counted: Counter[str] = Counter()
    written = number = 0
    with _damage_told(archive):
        for member in _tar(archive) if kind == "tar" else _zip(archive):
            name = _safe_name(member, archive, dict(move or {}))
            if (pattern := skipped.find(name)) is not None:
                counted[pattern] += 1
            elif wanted.find(name) is not None:
                if member.content is None:
                    raise UnsafeArchive(
                        f"{archive} has {member.name!r}, which is a link or a device where a file is "
                        "expected: it is not unpacked."
                    )
                parent = name.rpartition("/")[0]
                if parent not in folders:
                    (folder / parent).mkdir(parents=True, exist_ok=True)
                    folders.add(parent)
                target = os.path.join(folder, name)
                size = _copy(member.content, target, limit - written, archive, limit)
                written += size
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


class _Patterns:
    """Patterns, compiled once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._compiled = [(one, _compile(one)) for one in patterns]

    def find(self, path: str) -> str | None:
        """The first pattern that describes a path."""
        return next((name for name, one in self._compiled if one.fullmatch(path)), None)


def _compile(pattern: str) -> re.Pattern[str]:
    text = ""
    parts = pattern.split("/")
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == "**":
            text += ".*" if last else "(?:[^/]+/)*"
        else:
            escaped = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            text += escaped + ("" if last else "/")
    return re.compile(text, re.DOTALL)


# Return the name under which a member is written.
def _safe_name(member: _Member, archive: Path, move: Mapping[str, str]) -> str:
    path = PurePosixPath(member.name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts
    if outside or re.match(r"[A-Za-z]:", member.name) or "\0" in member.name:
        raise UnsafeArchive(
            f"{archive} has {member.name!r}, a name that leads out of its folder: it is not unpacked."
        )
    if member.special:
        raise UnsafeArchive(f"{archive} has the device {member.name!r}: it is not unpacked.")
    if member.link is not None and _leaves(path.parent, member.link):
        raise UnsafeArchive(
            f"{archive} has {member.name!r}, a link to {member.link!r} outside its folder: it is not "
            "unpacked."
        )
    for old, new in move.items():
        start = PurePosixPath(old)
        if path.is_relative_to(start):
            path = PurePosixPath(new) / path.relative_to(start)
            break
    return str(path)


def _leaves(folder: PurePosixPath, link: str) -> bool:
    depth = len(folder.parts)
    if PurePosixPath(link).is_absolute():
        return True
    for part in PurePosixPath(link).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _tar(archive: Path) -> Iterator[_Member]:
    # A stream keeps no list of its members; its buffer is copied at each read, so it is small.
    with tarfile.open(archive, "r|*", bufsize=_BUFFER) as tar:
        for one in tar:
            if one.isdir():
                _refuse_folder(one.name, archive)
                continue
            link = one.linkname if one.issym() or one.islnk() else None
            if one.islnk() and not one.linkname.startswith("/"):
                # Hard links are named from the top of the archive, symbolic ones from their folder.
                link = "../" * len(PurePosixPath(one.name).parent.parts) + one.linkname
            content = tar.extractfile(one) if one.isreg() else None
            yield _Member(one.name, link, one.isdev(), content)


def _zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as bundle:
        for one in bundle.infolist():
            if one.is_dir():
                _refuse_folder(one.filename, archive)
                continue
            if (one.external_attr >> 16) & 0o170000 == _LINK:
                with bundle.open(one) as content:
                    link = content.read(4096).decode("utf-8", "replace")
                yield _Member(one.filename, link, False, None)
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
                yield _Member(one.filename, None, False, content)


def _refuse_folder(name: str, archive: Path) -> None:
    _safe_name(_Member(name, None, False, None), archive, {})


def _copy(content: IO[bytes], target: str, left: int, archive: Path, limit: int) -> int:
    size = 0
    if os.path.lexists(target):
        # An archive may hold a name twice: the later one counts, as in tar itself.
        os.unlink(target)
    with open(target, "xb", buffering=0) as out:
        while chunk := content.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise UnsafeArchive(
                    f"{archive} expands to more than the {limit:,} bytes that the catalogue allows: "
                    "it is not unpacked further."
                )
            out.write(chunk)
    return size
