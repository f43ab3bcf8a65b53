"""Figure 1, right: the best effective learning rate of each task, and the error around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lqf.method import TITLES
from lqf.report.style import COLOURS, NEUTRAL, PAGE, new_figure
from lqf.report.words import counted


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: panel `best` (a row a data set) and `curve` (a row a grid point)."""
    best = pd.read_csv(results / "elr_best.csv").assign(panel="best")
    best = best.rename(columns={"best_elr": "elr"})
    columns = ["panel", "dataset", "method", "elr", "err_mean", "n_seeds", "n_diverged"]
    curve = pd.read_csv(results / "elr.csv").assign(panel="curve")
    # Errors differ between tasks; what a wrong rate costs is seen from each task's own best.
    least = curve.groupby(["dataset", "method"])["err_mean"].transform("min")
    curve["above_best"] = curve["err_mean"] - least
    frame = pd.concat([best[columns], curve[[*columns, "rate", "batch", "above_best"]]])
    return frame.reset_index(drop=True)


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws the boxes of the best rates, and error against rate."""
    figure = new_figure(PAGE, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    best, curve = rows[rows["panel"] == "best"], rows[rows["panel"] == "curve"]
    methods = sorted(best["method"].unique(), key=lambda method: method != "nlft")
    _boxes(left, best, methods)
    _curves(right, curve, methods)
    seeds = counted(curve["n_seeds"] + curve["n_diverged"], "seed")
    tasks = counted(best["dataset"].nunique(), "data set")
    left.set_title(f"best rate of each task ({tasks})")
    right.set_title(f"error around the best ({seeds} a point)")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2.4)
    return figure


def _boxes(axes: Axes, best: pd.DataFrame, methods: list[str]) -> None:
    """A wide dashed box for NLFT, and narrow solid ones for the others inside it."""
    best = best.dropna(subset="elr")
    for method in [one for one in methods if one in set(best["method"])]:
        values = best.loc[best["method"] == method, "elr"]
        dashed = method == "nlft"
        colour = COLOURS.get(method, NEUTRAL)
        line = {"color": colour, "linewidth": 1.2, "linestyle": "--" if dashed else "-"}
        axes.boxplot(
            [values],
            positions=[0],
            widths=0.7 if dashed else 0.32,
            whis=(0, 100),
            manage_ticks=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            capwidths=0.4 if dashed else 0.18,
            medianprops=line | {"linewidth": 2.0},
            zorder=2 if dashed else 3,
        )
        place = -0.62 if dashed else 0.62
        axes.plot(
            np.full(len(values), place) + _apart(np.log10(values.to_numpy(dtype=float))),
            values,
            "s" if dashed else "o",
            color=colour,
            markersize=3.2,
            alpha=0.75,
            markeredgewidth=0,
        )
    axes.set(yscale="log", xlim=(-1.05, 1.05))
    names = {-0.62: "NLFT,\neach task", 0.0: "quartiles,\nextremes", 0.62: "LQF,\neach task"}
    axes.set_xticks(list(names), list(names.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("effective learning rate\nη / ((1 − m) b), log scale")
    axes.margins(y=0.08)
    axes.grid(axis="y")


def _apart(values: np.ndarray) -> np.ndarray:
    """Sideways offsets for equal values, so that every dot is seen."""
    offsets = np.zeros(len(values))
    for value in np.unique(np.round(values, 6)):
        same = np.flatnonzero(np.isclose(values, value, atol=1e-5))
        offsets[same] = (np.arange(len(same)) - (len(same) - 1) / 2) * 0.075
    return offsets


def _curves(axes: Axes, curve: pd.DataFrame, methods: list[str]) -> None:
    for method in methods:
        own = curve[curve["method"] == method]
        colour, line = COLOURS.get(method, NEUTRAL), "--" if method == "nlft" else "-"
        for _, task in own.groupby("dataset", sort=True):
            mean = task.groupby("elr")["above_best"].mean()
            axes.plot(mean.index, mean, line, color=colour, linewidth=0.6, alpha=0.45)
        # A rate that some tasks diverge at has no median over tasks.
        safe = own.groupby("elr").filter(lambda point: bool((point["n_diverged"] == 0).all()))
        median = safe.groupby("elr")["above_best"].median()
        title = f"{TITLES.get(method, method)}, median of tasks"
        axes.plot(median.index, median, line, color=colour, linewidth=2, label=title)
        gone = own.loc[own["n_diverged"] > 0, "elr"].unique()
        if len(gone):
            axes.plot(
                gone,
                np.full(len(gone), 0.98),
                "x",
                color=colour,
                markersize=4,
                transform=axes.get_xaxis_transform(),
                label=f"{TITLES.get(method, method)} diverged for a task",
            )
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="effective learning rate, log scale", ylabel="error above the task's\nbest (points)"
    )
    axes.grid(axis="both")
