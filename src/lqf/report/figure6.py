"""Figure 6: the most and least informative samples, and what removing samples costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image as mpl_image
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, PAGE, banded, new_figure
from lqf.report.words import counted

ACROSS = 5
LINES = {"one_shot": ("-", "o"), "iterative": ("--", "^")}
NAMES = {
    ("most", "one_shot"): "most informative",
    ("least", "one_shot"): "least informative",
    ("random", "one_shot"): "random",
    ("random", "iterative"): "random, again",
    ("most", "iterative"): "most, scored again on the way",
    ("least", "iterative"): "least, scored again on the way",
}


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: panel `curve` (a row a point) and `sample` (a row a picture)."""
    curve = pd.read_csv(results / "removal.csv").assign(panel="curve")
    scores = pd.read_csv(results / "informativeness_scores.csv")
    scores = scores[scores["seed"] == scores["seed"].iloc[0]].sort_values("rank")
    sheet = mpl_image.imread(results / "informative_images.png")
    shown = sheet.shape[1] * 2 // sheet.shape[0]
    columns = ["row", "label", "class", "rank", "fsi_exact", "fsi_eq8", "fsi_kfac"]
    if scores["fsi_exact"].isna().all():
        columns.append("fsi_estimated")
    ends = {"most": scores.head(shown), "least": scores.tail(shown)[::-1]}
    samples = [end[columns].assign(panel="sample", removal=name) for name, end in ends.items()]
    return pd.concat([curve, *samples], ignore_index=True)


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws two grids of pictures and the accuracy after removal."""
    sheet = mpl_image.imread(results / "informative_images.png")
    figure = new_figure(PAGE, 2.75)
    first, second, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.75])
    size = sheet.shape[0] // 2
    for line, (axes, name) in enumerate(((first, "most"), (second, "least"))):
        _grid(axes, sheet[line * size : (line + 1) * size], COLOURS[name])
        axes.set_title(f"{name} informative")
    curve = rows[rows["panel"] == "curve"]
    _curves(right, curve)
    seeds = counted(curve["n_seeds"], "seed")
    band = "; band: ± 1 st. dev." if curve["n_seeds"].max() > 1 else ""
    right.set_title(f"{curve['title'].iloc[0]}, {seeds}{band}")
    return figure


def _grid(axes: Axes, strip: np.ndarray, colour: str) -> None:
    size = strip.shape[0]
    count = strip.shape[1] // size
    down = -(-count // ACROSS)
    gap = max(1, size // 12)
    step = size + gap
    canvas = np.ones((down * step + gap, ACROSS * step + gap, strip.shape[2]), strip.dtype)
    for number in range(count):
        y, x = divmod(number, ACROSS)
        picture = strip[:, number * size : (number + 1) * size]
        top, left = gap + y * step, gap + x * step
        canvas[top : top + size, left : left + size] = picture
    axes.imshow(canvas, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1.6)


def _curves(axes: Axes, curve: pd.DataFrame) -> None:
    for (removal, schedule), title in NAMES.items():
        own = curve[(curve["removal"] == removal) & (curve["schedule"] == schedule)]
        if own.empty:
            continue
        own = own.sort_values("n_removed")
        line, marker = LINES[schedule]
        looks: dict[str, Any] = {
            "marker": marker,
            "markersize": 3,
            "color": COLOURS[removal],
            "label": title,
        }
        banded(axes, own, "n_removed", line, alpha=0.12, **looks)
    total = int((curve["n_removed"] + curve["n_train"]).max())
    axes.set(xlabel=f"training samples removed (of {total})", ylabel="test accuracy (%)")
    axes.grid(axis="both")
    axes.legend(loc="best", handlelength=2.4)
