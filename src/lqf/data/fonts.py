"""The typefaces that matplotlib ships, and the shape of a glyph set in one of them.

They are the only fonts that are the same on every machine with the package installed.
"""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

DEJAVU = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold"),
)
STIX = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic")
# Computer Modern covers ASCII only.
COMPUTER_MODERN = ("cmr10", "cmss10", "cmtt10")


def font_path(font: str) -> Path:
    """Find the file of a font.

    Args:
        font: File name without ``.ttf``.

    Returns:
        Where matplotlib keeps it.

    Raises:
        ValueError: If matplotlib ships no such font.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    path = folder / f"{font}.ttf"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in folder.glob("*.ttf")))
        raise ValueError(f"matplotlib ships no font {font!r}: choose one of {shipped}.")
    return path


@functools.cache
def load_font(font: str, points: int) -> ImageFont.FreeTypeFont:
    """Open a font at a size.

    Args:
        font: File name without ``.ttf``.
        points: Height of the em square in pixels.

    Returns:
        The font, laid out without Raqm, which not every build of Pillow has.
    """
    return ImageFont.truetype(font_path(font), points, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def characters(font: str) -> frozenset[str]:
    """List what a font can draw; anything else comes out as the box for missing glyphs.

    Args:
        font: File name without ``.ttf``.

    Returns:
        The characters that the font has a shape for.
    """
    return frozenset(chr(code) for code in FT2Font(str(font_path(font))).get_charmap())


@functools.cache
def glyph_mask(text: str, font: str, points: int) -> Image.Image:
    """Draw a text tightly.

    Args:
        text: One character, or a few.
        font: File name without ``.ttf``.
        points: Height of the em square in pixels.

    Returns:
        Its coverage as an 8-bit image with a one-pixel empty border. It is shared: do not change it.

    Raises:
        ValueError: If the font lacks a character, or nothing is visible.
    """
    missing = sorted(set(text) - characters(font))
    if missing:
        raise ValueError(
            f"the font {font!r} has no glyph for {missing[0]!r} (U+{ord(missing[0]):04X}): choose "
            "another font for it."
        )
    face = load_font(font, points)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    mask = Image.new("L", (max(right - left, 0) + 4, max(bottom - top, 0) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), text, font=face, fill=255)
    ink = mask.getbbox()
    if ink is None:
        raise ValueError(f"the text {text!r} leaves no ink in the font {font!r}: use another.")
    return mask.crop((ink[0] - 1, ink[1] - 1, ink[2] + 1, ink[3] + 1))
