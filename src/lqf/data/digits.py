"""The handwritten digits that scikit-learn ships: 1,797 real images of 8 × 8 pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

# The images hold counts of ink, 0 to 16.
_FULL_INK = 16.0


def read_digits(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read all digits, enlarged.

    Args:
        size: Height and width of an image, H = W.

    Returns:
        The images, 1797 × H × W × 3 (grey, light ink on black), and their labels, 1797.
    """
    bunch = load_digits()
    small = np.rint(255.0 * bunch.images / _FULL_INK).astype(np.uint8)
    images = np.stack([_enlarge(image, size) for image in small])
    return images, bunch.target.astype(np.int64)


def _enlarge(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    grey = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(grey.convert("RGB"))
