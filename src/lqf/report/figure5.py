"""Figure 5: accuracy and cost of learning online, step by step and from scratch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, PAGE, banded, new_figure
from lqf.report.words import counted

LINES = {
    "lqf_inc": ("LQF, step by step", "-"),
    "lqf_scratch": ("LQF, from scratch", "--"),
    "lqf_exact_scratch": ("LQF, exact optimum", ":"),
    "nlft_inc": ("NLFT, step by step", "-"),
    "nlft_scratch": ("NLFT, from scratch", "--"),
}


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row a method, way of training, and step."""
    rows = pd.read_csv(results / "online.csv").sort_values(["method", "step"], ignore_index=True)
    rows["visits_total"] = rows.groupby("method")["visits_mean"].cumsum()
    return rows


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws accuracy (mean, band of one standard deviation over seeds) and cost so far."""
    figure = new_figure(PAGE, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    for method, (title, line) in LINES.items():
        own = rows[rows["method"] == method]
        if own.empty:
            continue
        colour = COLOURS[method.rpartition("_")[0]]
        banded(left, own, "n_seen", line, color=colour, label=title, alpha=0.2)
        right.plot(own["n_seen"], own["visits_total"], line, color=colour)
    left.set_ylabel("test accuracy (%)")
    right.set(ylabel="samples visited so far, log scale", yscale="log")
    for axes in (left, right):
        axes.set_xlabel("training samples so far")
        axes.grid(axis="both")
    steps, seeds = int(rows["step"].max()), counted(rows["n_seeds"], "seed")
    band = "; band: ± 1 standard deviation" if rows["n_seeds"].max() > 1 else ""
    left.set_title(f"{rows['title'].iloc[0]}, {steps} steps, {seeds}{band}")
    right.set_title("cost")
    figure.legend(loc="outside upper center", ncols=4, handlelength=2.4)
    return figure
