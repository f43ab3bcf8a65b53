"""Decode one image file of any kind into a square of RGB pixels."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from lqf.data.kinds import START, kind_of

# A JPEG is decoded at a fraction of its size where that leaves this many times the pixels needed.
_SPARE = 2
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
# Pillow hands these to another program, or opens what they carry as if it were a file of its own.
_REFUSED = {"EPS", "IPTC"}


class Undecodable(ValueError):
    """A file that is not an image, or not one that can be read."""


@dataclass(frozen=True)
class Decoded:
    """Pixels, S × S × 3, and whether the file ends early; its missing rows are grey."""

    pixels: NDArray[np.uint8]
    truncated: bool


def decode(data: bytes, size: int, cut_bottom: int = 0) -> Decoded:
    """Decode, turn upright, make RGB, resize the shorter side, cut the middle out.

    The kind of file is told by its content. Transparent pixels become white, CMYK and palettes are
    converted, 16-bit greys are scaled to 8 bit, and of an animation the first image is taken.

    The result has S = `size`; `cut_bottom` rows of the stored image are cut off first.

    Raises:
        Undecodable: If it cannot be decoded.
    """
    try:
        return Decoded(_decode(data, size, cut_bottom), truncated=False)
    except Undecodable:
        raise
    except UnidentifiedImageError:
        raise Undecodable(f"it is not an image ({_kind(data)})") from None
    except Exception as error:  # noqa: BLE001  (a damaged file makes Pillow's readers raise anything)
        first = error
    # Some published files end early. What there is of them is used, and they are counted.
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        return Decoded(_decode(data, size, cut_bottom), truncated=True)
    except Exception:  # noqa: BLE001
        raise Undecodable(f"{type(first).__name__}: {first}") from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _decode(data: bytes, size: int, cut_bottom: int) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        # Broken metadata and large images are no reason to stop; a bomb is an error of its own.
        warnings.simplefilter("ignore")
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
            if image.format in _REFUSED:
                raise Undecodable(f"files of the kind {image.format} are not opened")
            height = image.height
            image.draft(None, (_SPARE * size, _SPARE * size))
            image.load()
        except Image.DecompressionBombError as error:
            raise Undecodable(f"it is too large: {error}") from None
        if cut_bottom:
            left = image.height - round(cut_bottom * image.height / height)
            if left < 1:
                raise Undecodable(f"it has {height} rows, of which {cut_bottom} are to be cut off")
            image = image.crop((0, 0, image.width, left))
        # Damaged metadata says nothing about the pixels, and need not be written again.
        with contextlib.suppress(Exception):
            image.getexif()
            image.info.pop("exif", None)
            image = ImageOps.exif_transpose(image)
        square = ImageOps.fit(_plain(image), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square.convert("RGB"))


def _plain(image: Image.Image) -> Image.Image:
    """Returns the image as RGB or as 8-bit grey."""
    if image.mode in {"RGB", "L"}:
        return image
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # 16 bits, unless the values are those of 8 bits or (floating point) of the unit interval.
        top = 1.0 if image.mode == "F" and values.max(initial=0.0) <= 1.0 else 65535.0
        top = 255.0 if top > 1.0 and values.max(initial=0.0) <= 255.0 else top
        return Image.fromarray(np.rint(255.0 * np.clip(values / top, 0, 1)).astype(np.uint8))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        colours = image.convert("RGBA")
        paper = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(paper, colours).convert("RGB")
    return image.convert("RGB")


def _kind(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if kind_of(data[:START]) == "HEIC":
        return "it is HEIC, which Pillow does not read: save it as JPEG"
    if kind_of(data[:START]) == "image":
        return f"it begins like one, with {data[:8]!r}, but is damaged"
    return f"it begins with {data[:8]!r}"
