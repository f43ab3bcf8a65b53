"""A glyph as a small colour image: random position, size, rotation, slant, colours and noise.

The glyph is drawn once, large, then mapped onto a canvas three times finer than the image and
averaged down, so that edges are smooth whatever the rotation. The typefaces are those that matplotlib
ships: the only ones that are the same on every machine with the package installed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

DEJAVU = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold"),
)
STIX = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic")
# Computer Modern covers ASCII only.
COMPUTER_MODERN = ("cmr10", "cmss10", "cmtt10")

OVERSAMPLING = 3
_LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Variation:
    """How much two images of the same glyph may differ; every range is drawn from uniformly.

    Attributes:
        cover: Smallest and largest share of the image's side that the glyph's longer side takes.
        rotation: Largest rotation in degrees, either way.
        slant: Largest horizontal shear (sideways units per unit of height), either way.
        contrast: Smallest difference in luminance between glyph and ground, in [0, 1).
        shading: Largest change of the ground's brightness across the image.
        noise: Largest standard deviation of the pixel noise.
    """

    cover: tuple[float, float] = (0.6, 0.9)
    rotation: float = 15.0
    slant: float = 0.2
    contrast: float = 0.3
    shading: float = 0.15
    noise: float = 0.08


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
    """Draw a text tightly, in a font whose em square is `points` pixels high.

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


def render_glyph(
    text: str, font: str, size: int, variation: Variation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one image of a glyph, H × W × 3 with H = W = `size`; `rng` makes every random choice."""
    mask = _place(glyph_mask(text, font, OVERSAMPLING * size), size, variation, rng)
    ink, ground = draw_colours(variation.contrast, rng)
    shade = draw_shading(size, variation.shading, rng)
    image = ground + shade[..., None] + mask[..., None] * (ink - ground)
    return finish(image, variation.noise, rng)


def draw_colours(
    contrast: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw two RGB colours in [0, 1] whose luminance differs by at least `contrast`."""
    while True:
        pair = rng.uniform(0.0, 1.0, (2, 3))
        if abs((pair[0] - pair[1]) @ _LUMINANCE) >= contrast:
            return pair[0], pair[1]


def draw_shading(size: int, strength: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a brightness that changes linearly across the image, by at most `strength`.

    Returns:
        What to add to the image, H × W with H = W = `size`, with mean 0.
    """
    angle = rng.uniform(0.0, 2.0 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size) * rng.uniform(0.0, strength)
    return np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]


def finish(image: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add noise of a standard deviation up to `noise` to colours in [0, 1], H × W × 3, and make bytes."""
    image = image + rng.uniform(0.0, noise) * rng.standard_normal(image.shape)
    return np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)


def _place(
    glyph: Image.Image, size: int, variation: Variation, rng: np.random.Generator
) -> NDArray[np.float64]:
    # Coverage in [0, 1], H × W; no part of the glyph falls outside.
    canvas = OVERSAMPLING * size
    extent = np.array(glyph.size, dtype=float)
    angle = np.deg2rad(rng.uniform(-variation.rotation, variation.rotation))
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-variation.slant, variation.slant)], [0.0, 1.0]])
    scale = rng.uniform(*variation.cover) * canvas / extent.max()
    matrix = scale * rotate @ shear

    # The box around the mapped glyph is shrunk until it fits, then moved within what is left.
    reach = np.abs(matrix) @ extent / 2.0
    shrink = min(1.0, (canvas / 2.0) / reach.max())
    matrix, reach = shrink * matrix, shrink * reach
    centre = canvas / 2.0 + rng.uniform(-1.0, 1.0, 2) * (canvas / 2.0 - reach) * 0.8

    # Pillow asks where each pixel of the result comes from.
    inverse = np.linalg.inv(matrix)
    origin = extent / 2.0 - inverse @ centre
    coefficients = (*inverse[0], origin[0], *inverse[1], origin[1])
    placed = glyph.transform(
        (canvas, canvas), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(placed.reduce(OVERSAMPLING), dtype=float) / 255.0
