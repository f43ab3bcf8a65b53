"""The typefaces that matplotlib ships, and the shape of a glyph set in one of them.

They are the only fonts that are the same on every machine with the package installed.
"""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
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
    """Where matplotlib keeps a font, which is named without ``.ttf``."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")


@functools.cache
def load_font(font: str, points: int) -> ImageFont.FreeTypeFont:
    """Open a font at a height of the em square in pixels.

    It is laid out without Raqm, which not every build of Pillow has.
    """
    return ImageFont.truetype(font_path(font), points, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def glyph_mask(text: str, font: str, points: int) -> Image.Image:
    """Draw a text tightly.

    Args:
        text: One character, or a few, that the font has and that leave ink.
        font: File name without ``.ttf``.
        points: Height of the em square in pixels.

    Returns:
        Its coverage as an 8-bit image with a one-pixel empty border. It is shared: do not change it.

    Raises:
        ValueError: If the text leaves no ink.
    """
    face = load_font(font, points)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    mask = Image.new("L", (max(right - left, 0) + 4, max(bottom - top, 0) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), text, font=face, fill=255)
    ink = mask.getbbox()
    if ink is None:
        raise ValueError(
            f"font {font!r} draws nothing for {text!r}: take another character or font."
        )
    return mask.crop((ink[0] - 1, ink[1] - 1, ink[2] + 1, ink[3] + 1))
