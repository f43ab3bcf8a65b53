"""Numbers and names in words, for titles, captions and the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

MATRICES = {"squared": "JᵀJ (squared loss)", "cross_entropy": "cross-entropy, as trained"}
"""Gauss–Newton matrices of Figure 3."""

KEPT = {
    "fsi": "most F-SI",
    "fsi_again": "most F-SI, scored again",
    "random": "random",
    "k_centre": "k-centre",
    "herding": "herding",
}
"""Orders in which images are kept: Figure 9."""

CHOSEN = {
    "variance": "largest predictive variance",
    "margin": "smallest margin",
    "random": "random",
}
"""Orders in which images are learned: Table 4 and Figure 10."""

SHOWN = 1e-6
"""Smaller eigenvalues, relative to the largest, are rounding of single precision."""


def counted(values: ArrayLike, noun: str) -> str:
    """Spells whole numbers: "1 seed", "3 seeds", or "2–3 seeds" where they differ."""
    low, high = int(np.min(values)), int(np.max(values))
    number = str(low) if low == high else f"{low}–{high}"
    return f"{number} {noun}" if high == 1 else f"{number} {noun}s"


def digits(value: float) -> str:
    """Three significant digits, with a true minus; a dash if there is no number."""
    if pd.isna(value):
        return "—"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")
