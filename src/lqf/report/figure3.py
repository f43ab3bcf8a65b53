"""Figure 3: eigenvalues of the Gauss–Newton matrix before and after non-linear fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lqf.report.style import COLOURS, COLUMN, new_figure
from lqf.report.words import counted

PHASES = {"init": "pre-trained weights", "end": "after fine-tuning"}


def data(results: Path) -> pd.DataFrame:
    """Returns what is drawn: one row an eigenvalue, with the condition number of its phase.

    Args:
        results: The folder results/<scale>.
    """
    rows = pd.read_csv(results / "spectrum.csv")
    columns = ["seed", "phase", "kappa", "kappa_common", "rank_kept", "lambda_min_kept", "cutoff"]
    condition = pd.read_csv(results / "condition.csv")[columns]
    return rows.merge(condition, on=["seed", "phase"], how="left")


def plot(rows: pd.DataFrame, results: Path) -> Figure:
    """Draws overlaid histograms on a logarithmic axis, κ in the legend.

    Args:
        rows: What `data` returns.
        results: The folder results/<scale>.

    Returns:
        The figure.
    """
    figure = new_figure(COLUMN, 2.7)
    axes = figure.subplots()
    seeds = rows["seed"].nunique()
    kept = rows[rows["eigenvalue"] >= rows["lambda_min_kept"] * (1 - 1e-5)]
    logs = np.log10(kept["eigenvalue"])
    bins = np.linspace(np.floor(logs.min() * 4) / 4, np.ceil(logs.max() * 4) / 4, 41)
    for phase, title in PHASES.items():
        own = kept[kept["phase"] == phase]
        # The geometric mean: κ is compared as a ratio.
        kappa = np.exp(np.log(own.groupby("seed")["kappa"].first()).mean())
        common = np.exp(np.log(own.groupby("seed")["kappa_common"].first()).mean())
        axes.hist(
            own["eigenvalue"],
            bins=list(10**bins),
            weights=np.full(len(own), 1 / seeds),
            color=COLOURS[phase],
            alpha=0.5,
            edgecolor=COLOURS[phase],
            linewidth=0.5,
            label=f"{title}\nκ = {kappa:,.4g} ({common:,.4g} at equal rank)",
        )
    axes.set_xscale("log")
    axes.set_xlabel("eigenvalue of the Gauss–Newton matrix, log scale")
    axes.set_ylabel("number of eigenvalues")
    title = rows["title"].iloc[0]
    samples = f", {int(rows['n_samples'].iloc[0])} samples" if "n_samples" in rows else ""
    axes.set_title(f"{title}{samples}, {counted(seeds, 'seed')}")
    figure.legend(loc="outside upper center", ncols=1)
    return figure
