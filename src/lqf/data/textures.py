"""Eight procedural textures: a pattern in the plane, seen at a random place, scale and angle.

A pattern maps coordinates (in periods of the texture) to values in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lqf.data.glyphs import OVERSAMPLING, draw_colours, draw_shading, finish

Field = NDArray[np.float64]
Pattern = Callable[[Field, Field, np.random.Generator], Field]

_PERIODS = (2.5, 4.5)  # across the image
_CONTRAST = 0.2
_SHADING = 0.15
_NOISE = 0.12


def render_texture(name: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image of a texture, H × W × 3 with H = W = `size`."""
    fine = OVERSAMPLING * size
    line = (np.arange(fine) + 0.5) / fine - 0.5
    angle = rng.uniform(0.0, 2.0 * np.pi)
    periods = rng.uniform(*_PERIODS)
    across, down = np.meshgrid(line, line)
    x = periods * (np.cos(angle) * across + np.sin(angle) * down) + rng.uniform()
    y = periods * (np.cos(angle) * down - np.sin(angle) * across) + rng.uniform()
    field = TEXTURES[name](x, y, rng)
    cover = field.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))
    light, dark = draw_colours(_CONTRAST, rng)
    image = dark + draw_shading(size, _SHADING, rng)[..., None] + cover[..., None] * (light - dark)
    return finish(image, _NOISE, rng)


def _wave(phase: Field) -> Field:
    return 0.5 + 0.5 * np.sin(2.0 * np.pi * phase)


def _stripes(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return (x % 1.0 < rng.uniform(0.35, 0.65)).astype(float)


def _checks(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return ((np.floor(x) + np.floor(y)) % 2.0).astype(float)


def _dots(x: Field, y: Field, rng: np.random.Generator) -> Field:
    distance = np.hypot(x % 1.0 - 0.5, y % 1.0 - 0.5)
    return (distance < rng.uniform(0.25, 0.4)).astype(float)


def _rings(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return _wave(np.hypot(x - rng.uniform(-0.5, 1.5), y - rng.uniform(-0.5, 1.5)))


def _zigzag(x: Field, y: Field, rng: np.random.Generator) -> Field:
    shift = np.abs(x % 1.0 - 0.5) * rng.uniform(1.0, 1.6)
    return ((y + shift) % 1.0 < 0.5).astype(float)


def _bricks(x: Field, y: Field, rng: np.random.Generator) -> Field:
    row = np.floor(y)
    joint = 0.2
    along = (x / 1.6 + 0.5 * (row % 2.0)) % 1.0
    return ((y % 1.0 > joint) & (along > joint / 1.6)).astype(float)


def _cells(x: Field, y: Field, rng: np.random.Generator) -> Field:
    # Walls between the regions nearest to randomly displaced lattice points.
    reach = np.arange(np.floor(min(x.min(), y.min())) - 1, np.ceil(max(x.max(), y.max())) + 2)
    lattice = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    seeds = lattice + rng.uniform(0.0, 1.0, lattice.shape)
    distances = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1])
    nearest, second = np.moveaxis(np.partition(distances, 1, axis=-1)[..., :2], -1, 0)
    return (second - nearest > 0.15).astype(float)


def _clouds(x: Field, y: Field, rng: np.random.Generator) -> Field:
    # A sum of plane waves in all directions, the fast ones weaker.
    total = np.zeros_like(x)
    for frequency in (0.4, 0.7, 1.1, 1.7):
        for _ in range(4):
            angle, phase = rng.uniform(0.0, 2.0 * np.pi), rng.uniform()
            wave = _wave(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
            total += (wave - 0.5) / frequency
    return np.clip(0.5 + total / 4.0, 0.0, 1.0)


TEXTURES: dict[str, Pattern] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "zigzag": _zigzag,
    "bricks": _bricks,
    "cells": _cells,
    "clouds": _clouds,
}
