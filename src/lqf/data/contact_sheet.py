"""A picture of a data set: some images of every class, with the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lqf.data.glyphs import load_font

_ROWS = 14  # classes below one another before the next column of classes begins
_LARGEST, _TOTAL = 10, 240  # images of a class, and about of all
_SIDE, _GAP = 48, 4
_NAME = 32  # letters of a class


def contact_sheet(
    title: str,
    images: NDArray[np.uint8],
    groups: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> Image.Image:
    """Draw the first images of every class: `groups` has their rows in N × H × W × 3, H = W."""
    zoom = max(1, _SIDE // images.shape[1])
    side = min(_SIDE, zoom * images.shape[1])
    cell = side + _GAP
    shown = max(1, min(_LARGEST, _TOTAL // len(classes), max(map(len, groups))))
    rows = min(_ROWS, len(classes))
    columns = -(-len(classes) // rows)
    names = [
        _on_one_line(name if len(name) <= _NAME else f"{name[: _NAME - 1]}…") for name in classes
    ]
    name_font = load_font("DejaVuSans", 12)
    indent = int(max(name_font.getlength(name) for name in names)) + 2 * _GAP
    width = indent + shown * cell + 4 * _GAP
    top = 40
    sheet = Image.new("RGB", (columns * width, top + rows * cell + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    bold = load_font("DejaVuSans-Bold", 16)
    draw.text((2 * _GAP, 10), _on_one_line(title), font=bold, fill="black")
    resampling = Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.BICUBIC
    for label, (name, group) in enumerate(zip(names, groups, strict=True)):
        column, row = divmod(label, rows)
        x, y = column * width + 2 * _GAP, top + row * cell
        anchor = (x, y + cell // 2)
        draw.text(anchor, name, font=name_font, fill="black", anchor="lm")
        for place, number in enumerate(group[:shown]):
            tile = Image.fromarray(np.asarray(images[number])).resize((side, side), resampling)
            sheet.paste(tile, (x + indent + place * cell, y))
    return sheet


def _on_one_line(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
