"""Figure 2: what LQF loses when its ingredients are taken away, one, two, or all three."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, NEUTRAL, PAGE, boxes, new_figure
from lqf.report.words import counted

LABELS = {
    "lqf_no_mse": "cross-\nentropy",
    "lqf_no_kfac": "no\nK-FAC",
    "lqf_no_leaky": "ReLU",
    "lqf_no_mse_kfac": "cross-ent.\n+ no K-FAC",
    "lqf_no_mse_leaky": "cross-ent.\n+ ReLU",
    "lqf_no_kfac_leaky": "no K-FAC\n+ ReLU",
    "gaf": "all three\n(GaF)",
}
SINGLE = tuple(LABELS)[:3]


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row a data set and ablation, with the ablation's summary."""
    rows = pd.read_csv(results / "ablation.csv")
    rows = rows[rows["method"].isin(LABELS)]
    columns = ["dataset", "title", "method", "err_mean", "err_std", "n_seeds", "rel_increase_pct"]
    summary = pd.read_csv(results / "ablation_summary.csv")
    return rows[columns].merge(summary, on="method", how="left")


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws boxes with whiskers at minimum and maximum."""
    methods = [method for method in LABELS if method in set(rows["method"])]
    figure = new_figure(PAGE, 2.6)
    axes = figure.subplots()
    groups = [rows.loc[rows["method"] == method, "rel_increase_pct"] for method in methods]
    colours = [COLOURS[m] if m in SINGLE else NEUTRAL for m in methods]
    axes.axhline(0, color="black", linestyle="--", linewidth=1)
    axes.annotate(
        "LQF",
        (1, 0),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        annotation_clip=False,
    )
    boxes(axes, groups, colours)
    singles = sum(method in SINGLE for method in methods)
    if 0 < singles < len(methods):
        axes.axvline(singles - 0.5, color=NEUTRAL, linewidth=0.6, linestyle=":")
    axes.set_xticks(range(len(methods)), [LABELS[method] for method in methods])
    axes.set_xlim(-0.6, len(methods) - 0.4)
    axes.set_ylabel("error over LQF,\nrelative increase (%)")
    number, seeds = counted(rows["n_datasets"], "data set"), counted(rows["n_seeds"], "seed")
    axes.set_title(f"LQF with its choices put back ({number}, {seeds} each)")
    axes.grid(axis="y")
    return figure
