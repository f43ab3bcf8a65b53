"""How figures look, and how they are saved so that drawing twice gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lqf.files import replaced

COLUMN, PAGE = 3.5, 7.2
"""Widths of a column and of a page, in inches."""

COLOURS: dict[str, str] = {
    "nlft": "#4d4d4d",
    "lqf": "#1f77b4",
    "lqf_exact": "#17becf",
    "lqf_euclidean": "#9467bd",
    "ridge_head": "#8c564b",
    "l2_sp": "#ff7f0e",
    "ps_kd": "#2ca02c",
    "elr": "#d62728",
    "lqf_fc": "#ff7f0e",
    "gaf": "#2ca02c",
    "fc": "#d62728",
    "lqf_no_mse": "#1f77b4",
    "lqf_no_kfac": "#ff7f0e",
    "lqf_no_leaky": "#2ca02c",
    "init": "#1f77b4",
    "end": "#ff7f0e",
    "most": "#d62728",
    "least": "#1f77b4",
    "random": "#7f7f7f",
}
"""The paper's colours; Figure 2 has its own for the ablations."""

NEUTRAL = "#9a9a9a"

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.linewidth": 0.4,
    "grid.color": "#d9d9d9",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "savefig.dpi": 220,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "svg.hashsalt": "lqf",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "path.simplify": False,
}

# No dates, and no versions in the files: they would differ although the picture does not.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Figures made and saved inside look alike, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type, unused-ignore]
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of that size in inches, drawn by Agg whatever the environment."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Saves a figure as PDF, SVG and PNG, each whole or not at all."""
    for extension, metadata in _METADATA.items():
        with replaced(folder / f"{name}.{extension}") as file:
            figure.savefig(file, format=extension, metadata=metadata)
