"""Figure 3: eigenvalues of Gauss–Newton matrices before and after non-linear fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, PAGE, new_figure
from lqf.report.words import counted

MATRICES = {"squared": "JᵀJ (squared loss)", "cross_entropy": "cross-entropy, as trained"}
PHASES = {"init": "pre-trained weights", "end": "after fine-tuning"}
#: Smaller ones, relative to the largest, are rounding of single precision.
SHOWN = 1e-6


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row an eigenvalue."""
    rows = pd.read_csv(results / "spectrum.csv")
    largest = rows.groupby(["seed", "matrix", "phase"])["eigenvalue"].transform("max")
    return rows[rows["eigenvalue"] > SHOWN * largest].reset_index(drop=True)


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws overlaid histograms on a logarithmic axis, a panel a matrix."""
    figure = new_figure(PAGE, 2.5)
    panels = figure.subplots(1, len(MATRICES), sharey=True)
    seeds = rows["seed"].nunique()
    for axes, (matrix, title) in zip(panels, MATRICES.items(), strict=True):
        own = rows[rows["matrix"] == matrix].reset_index(drop=True)
        sns.histplot(
            own.replace({"phase": PHASES}),
            x="eigenvalue",
            hue="phase",
            hue_order=list(PHASES.values()),
            palette=[COLOURS[phase] for phase in PHASES],
            weights=1 / seeds,
            bins=40,
            log_scale=True,
            element="step",
            alpha=0.4,
            legend=axes is panels[0],
            ax=axes,
        )
        axes.set(title=title, xlabel="eigenvalue, log scale")
    panels[0].set_ylabel("number of eigenvalues")
    legend = panels[0].get_legend()
    handles, labels = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    legend.remove()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    name, samples = rows["title"].iloc[0], int(rows["n_samples"].iloc[0])
    figure.suptitle(
        f"{name}, {samples} samples, {counted(seeds, 'seed')}", x=0.02, ha="left", fontsize=8
    )
    return figure
