"""Tell image files by their name and by how they begin, without decoding (and without Pillow)."""

from __future__ import annotations

import os

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"}
)
"""How names of images end, in small letters."""

START = 12
"""Bytes of a file that `kind_of` wants."""

# JPEG, PNG, GIF, BMP, TIFF, PPM.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def named_like_an_image(name: str) -> bool:
    """Tell an image by the end of its name."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def kind_of_file(path: str | os.PathLike[str]) -> str | None:
    """Tell an image file by how it begins, as `kind_of`; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(START))
    except OSError:
        return None


def kind_of(start: bytes) -> str | None:
    """Tell an image by how it begins: ``image``; ``HEIC``, which Pillow does not read; or None."""
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        return "image" if brand in {b"avif", b"avis"} else "HEIC" if brand in _HEIC else None
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return "image" if webp or start.startswith(_BEGINNINGS) else None
