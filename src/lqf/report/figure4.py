"""Figure 4: LQF against non-linear fine-tuning with few samples a class."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, COLUMN, boxes, new_figure
from lqf.report.words import counted


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row a data set and number of shots."""
    return pd.read_csv(results / "kshot.csv", dtype={"shots": str})


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws a box a number of shots, outliers as diamonds."""
    shots = list(rows["shots"].unique())
    figure = new_figure(COLUMN, 2.5)
    axes = figure.subplots()
    groups = [rows.loc[rows["shots"] == k, "rel_diff_pct"] for k in shots]
    axes.axhline(0, color=COLOURS["nlft"], linestyle="--", linewidth=1)
    boxes(axes, groups, [COLOURS["lqf"]] * len(shots), whiskers=1.5, points=False)
    axes.set_xticks(range(len(shots)), shots)
    axes.set_xlim(-0.6, len(shots) - 0.4)
    axes.set(xlabel="training samples a class", ylabel="(LQF − NLFT) / NLFT\ntest error, %")
    sets = counted([group.notna().sum() for group in groups], "data set")
    axes.set_title(f"{sets}, {counted(rows['n_seeds'], 'draw')} each")
    axes.grid(axis="y")
    low, high = axes.get_ylim()
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    axes.set_ylim(low, high)
    for place, word in ((high, "NLFT better"), (low, "LQF better")):
        axes.annotate(
            word,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color=COLOURS["nlft"],
            va="top" if place == high else "bottom",
        )
    return figure
