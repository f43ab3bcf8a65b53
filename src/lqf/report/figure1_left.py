"""Figure 1, left: relative increase of the error over non-linear fine-tuning, a box a method."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lqf.method import TITLES
from lqf.report.style import COLOURS, COLUMN, NEUTRAL, boxes, new_figure
from lqf.report.words import counted


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row a data set and method, with the method's summary."""
    rows = pd.read_csv(results / "relative.csv")
    summary = pd.read_csv(results / "relative_summary.csv")
    return rows.merge(summary, on="method", how="left")


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws lying boxes with whiskers at minimum and maximum."""
    methods = list(rows["method"].unique())
    figure = new_figure(COLUMN, 0.75 + 0.36 * len(methods))
    axes = figure.subplots()
    groups = [rows.loc[rows["method"] == method, "rel_increase_pct"] for method in methods]
    axes.axvline(0, color=COLOURS["nlft"], linestyle="--", linewidth=1, label="NLFT")
    boxes(axes, groups, [COLOURS.get(m, NEUTRAL) for m in methods], vertical=False)
    printed = rows.drop_duplicates("method").reset_index(drop=True)["paper_median"].dropna()
    axes.plot(
        printed,
        printed.index,
        "D",
        markersize=5,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.9,
        zorder=5,
        label="paper's median (its own data sets)",
    )
    axes.set_yticks(range(len(methods)), [TITLES.get(m, m) for m in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    number = counted(rows["n_datasets"].max(), "data set")
    axes.set_xlabel(f"error over NLFT, relative\nincrease (%); {number}")
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.6)
    return figure
