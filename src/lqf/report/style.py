"""How figures look, and how they are saved so that drawing twice gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lqf.report.raw import whole
from lqf.report.statistics import finite

COLUMN, PAGE = 3.5, 7.2
"""Widths of a column and of a page, in inches."""

COLOURS: dict[str, str] = {
    "nlft": "#4d4d4d",
    "lqf": "#1f77b4",
    "lqf_exact": "#17becf",
    "lqf_euclidean": "#9467bd",
    "ridge_head": "#8c564b",
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

_WIDTH = 0.55  # of a box

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
        with whole(folder / f"{name}.{extension}") as file:
            figure.savefig(file, format=extension, metadata=metadata)


def banded(axes: Axes, rows: pd.DataFrame, x: str, *line: str, alpha: float, **looks: Any) -> None:
    """Mean accuracy over a column, with a band of one standard deviation to each side."""
    axes.plot(rows[x], rows["acc_mean"], *line, **looks)
    low, high = (rows["acc_mean"] + sign * rows["acc_std"].fillna(0) for sign in (-1, 1))
    axes.fill_between(rows[x], low, high, color=looks["color"], alpha=alpha, linewidth=0)


def boxes(
    axes: Axes,
    groups: Sequence[ArrayLike],
    colours: Sequence[str],
    *,
    vertical: bool = True,
    whiskers: tuple[float, float] | float = (0, 100),
    points: bool = True,
) -> None:
    """Box plots at positions 0, 1, …: quartiles, median, and whiskers at minimum and maximum.

    Args:
        axes: Where to draw.
        groups: The values of each box; what is not finite is left out.
        colours: One a box.
        vertical: Upright boxes, or lying ones.
        whiskers: Percentiles of the whiskers, or the multiple of the quartile distance beyond
            which values are outliers, drawn as diamonds.
        points: Draw every value as a dot too.
    """
    for position, (values, colour) in enumerate(zip(groups, colours, strict=True)):
        group = finite(values)
        if not len(group):
            continue
        line = {"color": colour, "linewidth": 1.0}
        axes.boxplot(
            [group],
            positions=[position],
            widths=_WIDTH,
            orientation="vertical" if vertical else "horizontal",
            whis=whiskers,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": _tint(colour), "edgecolor": colour, "linewidth": 1.0},
            medianprops={"color": colour, "linewidth": 1.8},
            whiskerprops=line,
            capprops=line,
            flierprops={
                "marker": "D",
                "markersize": 3.5,
                "markerfacecolor": "white",
                "markeredgecolor": colour,
            },
        )
        if points:
            across = position + _spread(group) * _WIDTH
            along = (across, group) if vertical else (group, across)
            axes.plot(*along, "o", color=colour, markersize=2.6, markeredgewidth=0, alpha=0.75)


def _spread(values: np.ndarray) -> np.ndarray:
    """Offsets that keep dots apart: by rank, so that they depend on the values alone."""
    if len(values) < 2:
        return np.zeros(len(values))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return ((ranks * 2) % 5 - 2) * 0.09


def _tint(colour: str) -> tuple[float, ...]:
    return tuple(0.78 + 0.22 * part for part in mpl.colors.to_rgb(colour))
