"""A picture of a data set: some images of every class, with the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lqf.data.fonts import load_font

_ROWS = 14  # classes below one another before the next column of classes begins
_LARGEST = 10  # images of a class
_GAP = 4


def contact_sheet(
    title: str, images: Sequence[NDArray[np.uint8]], classes: Sequence[str]
) -> Image.Image:
    """Draw the sheet.

    Args:
        title: Line at the top.
        images: For each class its images, n × H × W × 3; the first ten are shown.
        classes: Names of the classes.
    """
    title, classes = _on_one_line(title), [_on_one_line(name) for name in classes]
    zoom = max(1, 48 // images[0].shape[1])
    cell = zoom * images[0].shape[1] + _GAP
    shown = min(_LARGEST, max(len(group) for group in images))
    rows = min(_ROWS, len(classes))
    columns = -(-len(classes) // rows)
    name_font = load_font("DejaVuSans", 12)
    indent = int(max(name_font.getlength(name) for name in classes)) + 2 * _GAP
    width = indent + shown * cell + 4 * _GAP
    top = 40
    sheet = Image.new("RGB", (columns * width, top + rows * cell + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * _GAP, 10), title, font=load_font("DejaVuSans-Bold", 16), fill="black")
    for label, (name, group) in enumerate(zip(classes, images, strict=True)):
        column, row = divmod(label, rows)
        x, y = column * width + 2 * _GAP, top + row * cell
        anchor = (x, y + cell // 2)
        draw.text(anchor, name, font=name_font, fill="black", anchor="lm")
        for place, image in enumerate(group[:shown]):
            side = zoom * image.shape[0]
            tile = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (x + indent + place * cell, y))
    return sheet


def _on_one_line(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
