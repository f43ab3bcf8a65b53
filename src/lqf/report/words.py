"""Numbers in words, for titles and captions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def counted(values: ArrayLike, noun: str) -> str:
    """Spells whole numbers: "1 seed", "3 seeds", or "2–3 seeds" where they differ."""
    low, high = int(np.min(values)), int(np.max(values))
    number = str(low) if low == high else f"{low}–{high}"
    return f"{number} {noun}" if high == 1 else f"{number} {noun}s"
