"""Files like the paper's photographs, made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# Width, height and quality as in the paper's data sets, and how many of ten images are so.
SHAPES = [(500, 375, 90)] * 6 + [(1024, 695, 90)] * 3 + [(300, 400, 85)]


def make_images(folder: Path, number: int, shapes: list[tuple[int, int, int]] = SHAPES) -> None:
    """Write photographs of nothing: smooth colours with some grain, so that they compress like photos.

    Args:
        folder: gets ``train/CLASS/*.jpg``.
        number: how many.
        shapes: width, height and quality, in turn.
    """
    rng = np.random.default_rng(0)
    for index in range(number):
        width, height, quality = shapes[index % len(shapes)]
        coarse = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int16)
        grain = rng.integers(-12, 12, (height, width, 1), dtype=np.int16)
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        place = folder / "train" / f"class_{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:05d}.jpg", quality=quality)
