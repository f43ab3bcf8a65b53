"""The figures: of each, the rows that are drawn, from results/<scale>/, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib.image as mpl_image
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lqf.method import TITLES
from lqf.report import artefacts
from lqf.report.style import COLOURS, COLUMN, NEUTRAL, PAGE, new_figure
from lqf.report.words import CHOSEN, KEPT, MATRICES, SHOWN, counted

Rows = Callable[[Path], pd.DataFrame]
Drawing = Callable[[pd.DataFrame, Path], Figure]

ABLATIONS = {
    "lqf_no_mse": "cross-\nentropy",
    "lqf_no_kfac": "no\nK-FAC",
    "lqf_no_leaky": "ReLU",
    "lqf_no_mse_kfac": "cross-ent.\n+ no K-FAC",
    "lqf_no_mse_leaky": "cross-ent.\n+ ReLU",
    "lqf_no_kfac_leaky": "no K-FAC\n+ ReLU",
    "gaf": "all three\n(GaF)",
}
PHASES = {"init": "pre-trained weights", "end": "after fine-tuning"}
ONLINE = {
    "lqf_inc": ("LQF, step by step", "-"),
    "lqf_scratch": ("LQF, from scratch", "--"),
    "lqf_exact_scratch": ("LQF, exact optimum", ":"),
    "nlft_inc": ("NLFT, step by step", "-"),
    "nlft_scratch": ("NLFT, from scratch", "--"),
}
REMOVALS = {
    ("most", "one_shot"): "most informative",
    ("least", "one_shot"): "least informative",
    ("random", "one_shot"): "random",
    ("random", "iterative"): "random, again",
    ("most", "iterative"): "most, scored again on the way",
    ("least", "iterative"): "least, scored again on the way",
}
ACROSS = 5  # pictures beside each other in Figure 6


def boxes(axes: Axes, rows: pd.DataFrame, colours: Iterable[str], **columns: Any) -> None:
    """A box a method: quartiles, median, whiskers at minimum and maximum, and a dot a value."""
    if rows[[columns["x"], columns["y"]]].dropna().empty:
        return  # a relative increase over an error of zero is none, and seaborn draws no empty box
    looks = {"data": rows, "ax": axes, "palette": list(colours), "legend": False, **columns}
    median = {"linewidth": 1.8}
    sns.boxplot(**looks, fill=False, whis=(0, 100), width=0.55, linewidth=1, medianprops=median)
    sns.swarmplot(**looks, size=3.2, linewidth=0.4, edgecolor="white")


def banded(
    axes: Axes, rows: pd.DataFrame, x: str, line: str, color: str, alpha: float, **looks: Any
) -> None:
    """Mean accuracy over a column, with a band of one standard deviation to each side."""
    axes.plot(rows[x], rows["acc_mean"], line, color=color, **looks)
    low, high = (rows["acc_mean"] + sign * rows["acc_std"].fillna(0) for sign in (-1, 1))
    axes.fill_between(rows[x], low, high, color=color, alpha=alpha, linewidth=0)


def figure1_left_rows(results: Path) -> pd.DataFrame:
    """One row a data set and method, with the method's summary."""
    rows = pd.read_csv(results / "relative.csv")
    return rows.merge(pd.read_csv(results / "relative_summary.csv"), on="method", how="left")


def figure1_left(rows: pd.DataFrame, results: Path) -> Figure:
    """Relative increase of the error over non-linear fine-tuning, a lying box a method."""
    methods = list(rows["method"].unique())
    figure = new_figure(COLUMN, 0.75 + 0.36 * len(methods))
    axes = figure.subplots()
    axes.axvline(0, color=COLOURS["nlft"], linestyle="--", linewidth=1, label="NLFT")
    colours = [COLOURS.get(method, NEUTRAL) for method in methods]
    boxes(axes, rows, colours, x="rel_increase_pct", y="method", hue="method")
    printed = rows.drop_duplicates("method").reset_index(drop=True)["paper_median"].dropna()
    looks: dict[str, Any] = {
        "markersize": 5,
        "markerfacecolor": "white",
        "markeredgecolor": "black",
    }
    title = "paper's median (its own data sets)"
    axes.plot(printed, printed.index, "D", **looks, markeredgewidth=0.9, zorder=5, label=title)
    axes.set_yticks(range(len(methods)), [TITLES.get(m, m) for m in methods])
    number = counted(rows["n_datasets"].max(), "data set")
    axes.set(xlabel=f"error over NLFT, relative\nincrease (%); {number}", ylabel=None)
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.6)
    return figure


def figure1_right_rows(results: Path) -> pd.DataFrame:
    """Panel `best`, one row a data set, and panel `curve`, one row a grid point."""
    best = pd.read_csv(results / "elr_best.csv").assign(panel="best")
    best = best.rename(columns={"best_elr": "elr"})
    columns = ["panel", "dataset", "method", "elr", "err_mean", "n_seeds", "n_diverged"]
    curve = pd.read_csv(results / "elr.csv").assign(panel="curve")
    # Errors differ between tasks; what a wrong rate costs is seen from each task's own best.
    least = curve.groupby(["dataset", "method"])["err_mean"].transform("min")
    curve["above_best"] = curve["err_mean"] - least
    frame = pd.concat([best[columns], curve[[*columns, "rate", "batch", "above_best"]]])
    return frame.reset_index(drop=True)


def figure1_right(rows: pd.DataFrame, results: Path) -> Figure:
    """The best effective learning rate of each task, and the error around it."""
    figure = new_figure(PAGE, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    best, curve = rows[rows["panel"] == "best"], rows[rows["panel"] == "curve"]
    methods = sorted(best["method"].unique(), key=lambda method: method != "nlft")
    colours = [COLOURS.get(method, NEUTRAL) for method in methods]
    ordered = {"order": methods, "hue": "method", "hue_order": methods, "log_scale": True}
    boxes(left, best, colours, x="method", y="elr", **ordered)
    left.set_xticks(range(len(methods)), [TITLES.get(method, method) for method in methods])
    left.set(xlabel=None, ylabel="effective learning rate\nη / ((1 − m) b), log scale")
    left.set_title(f"best rate of each task ({counted(best['dataset'].nunique(), 'data set')})")
    left.grid(axis="y")
    for method, colour in zip(methods, colours, strict=True):
        own, title = curve[curve["method"] == method], TITLES.get(method, method)
        looks = {"x": "elr", "y": "above_best", "color": colour, "legend": False, "ax": right}
        looks |= {"errorbar": None, "linestyle": "--" if method == "nlft" else "-"}
        for _, task in own.groupby("dataset"):
            sns.lineplot(task, **looks, linewidth=0.6, alpha=0.45)
        # A rate that some tasks diverge at has no median over tasks.
        gone = own.loc[own["n_diverged"] > 0, "elr"].unique()
        label, safe = f"{title}, median of tasks", own[~own["elr"].isin(gone)]
        sns.lineplot(safe, **looks, estimator="median", linewidth=2, label=label)
        if len(gone):
            label, across = f"{title} diverged for a task", right.get_xaxis_transform()
            height = np.full(len(gone), 0.98)
            right.plot(gone, height, "x", color=colour, markersize=4, transform=across, label=label)
    right.set(xscale="log", xlabel="effective learning rate, log scale")
    right.set_yscale("symlog", linthresh=1)
    right.set(ylim=(0, None), ylabel="error above the task's\nbest (points)")
    right.xaxis.set_minor_formatter(NullFormatter())
    seeds = counted(curve["n_seeds"] + curve["n_diverged"], "seed")
    right.set_title(f"error around the best ({seeds} a point)")
    right.grid(axis="both")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2.4)
    return figure


def figure2_rows(results: Path) -> pd.DataFrame:
    """One row a data set and ablation, with the ablation's summary."""
    rows = pd.read_csv(results / "ablation.csv")
    rows = rows[rows["method"].isin(ABLATIONS)]
    columns = ["dataset", "title", "method", "err_mean", "err_std", "n_seeds", "rel_increase_pct"]
    summary = pd.read_csv(results / "ablation_summary.csv")
    return rows[columns].merge(summary, on="method", how="left")


def figure2(rows: pd.DataFrame, results: Path) -> Figure:
    """What LQF loses when its ingredients are taken away, one, two, or all three."""
    methods = [method for method in ABLATIONS if method in set(rows["method"])]
    single = [method.count("_") == 2 for method in methods]
    figure = new_figure(PAGE, 2.6)
    axes = figure.subplots()
    colours = [COLOURS[m] if one else NEUTRAL for m, one in zip(methods, single, strict=True)]
    axes.axhline(0, color="black", linestyle="--", linewidth=1)
    axes.text(1.005, 0, "LQF", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    ordered = {"order": methods, "hue": "method", "hue_order": methods}
    boxes(axes, rows, colours, x="method", y="rel_increase_pct", **ordered)
    if 0 < sum(single) < len(methods):
        axes.axvline(sum(single) - 0.5, color=NEUTRAL, linewidth=0.6, linestyle=":")
    axes.set_xticks(range(len(methods)), [ABLATIONS[method] for method in methods])
    number, seeds = counted(rows["n_datasets"], "data set"), counted(rows["n_seeds"], "seed")
    axes.set(xlabel=None, ylabel="error over LQF,\nrelative increase (%)")
    axes.set_title(f"LQF with its choices put back ({number}, {seeds} each)")
    axes.grid(axis="y")
    return figure


def figure3_rows(results: Path) -> pd.DataFrame:
    """One row an eigenvalue."""
    rows = pd.read_csv(results / "spectrum.csv")
    largest = rows.groupby(["seed", "matrix", "phase"])["eigenvalue"].transform("max")
    return rows[rows["eigenvalue"] > SHOWN * largest].reset_index(drop=True)


def figure3(rows: pd.DataFrame, results: Path) -> Figure:
    """Eigenvalues before and after fine-tuning, overlaid histograms, a panel a matrix."""
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
    title = f"{name}, {samples} samples, {counted(seeds, 'seed')}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=8)
    return figure


def figure4_rows(results: Path) -> pd.DataFrame:
    """One row a data set and number of shots, which stands at the mean images of a class."""
    rows = pd.read_csv(results / "kshot.csv", dtype={"shots": str})
    return rows.assign(at=rows.groupby("shots")["per_class"].transform("mean"))


def figure4(rows: pd.DataFrame, results: Path) -> Figure:
    """LQF against non-linear fine-tuning with few samples a class, outliers as diamonds."""
    figure = new_figure(COLUMN, 2.5)
    axes = figure.subplots()
    axes.axhline(0, color=COLOURS["nlft"], linestyle="--", linewidth=1)
    sns.boxplot(
        rows.dropna(subset="rel_diff_pct"),  # Where every draw diverged there is no box.
        x="at",
        y="rel_diff_pct",
        native_scale=True,
        log_scale=(True, False),
        fill=False,
        color=COLOURS["lqf"],
        width=0.5,
        linewidth=1,
        medianprops={"linewidth": 1.8},
        flierprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white"},
        ax=axes,
    )
    places = dict(zip(rows["at"], rows["shots"], strict=True))
    named = [f"all\n({at:.0f})" if k == "all" else k for at, k in places.items()]
    axes.set_xticks(list(places), named)
    axes.set_xticks([], minor=True)
    axes.set(
        xlabel="training samples a class, log scale", ylabel="(LQF − NLFT) / NLFT\ntest error, %"
    )
    sets = counted(rows.groupby("shots")["rel_diff_pct"].count(), "data set")
    axes.set_title(f"{sets}, {counted(rows['n_seeds'], 'draw')} each")
    axes.grid(axis="y")
    axes.margins(y=0.15)
    for height, word, side in ((0.99, "NLFT better", "top"), (0.01, "LQF better", "bottom")):
        place: dict[str, Any] = {"ha": "right", "va": side, "transform": axes.transAxes}
        axes.text(0.99, height, word, fontsize=7, color=COLOURS["nlft"], **place)
    return figure


def figure5_rows(results: Path) -> pd.DataFrame:
    """One row a method, way of training, and step."""
    rows = pd.read_csv(results / "online.csv").sort_values(["method", "step"], ignore_index=True)
    return rows.assign(visits_total=rows.groupby("method")["visits_mean"].cumsum())


def figure5(rows: pd.DataFrame, results: Path) -> Figure:
    """Accuracy and cost of learning online, step by step and from scratch."""
    figure = new_figure(PAGE, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    for method, (title, line) in ONLINE.items():
        if (own := rows[rows["method"] == method]).empty:
            continue
        colour = COLOURS[method.rpartition("_")[0]]
        banded(left, own, "n_seen", line, color=colour, label=title, alpha=0.2)
        right.plot(own["n_seen"], own["visits_total"], line, color=colour)
    left.set_ylabel("test accuracy (%)")
    right.set(ylabel="samples visited so far, log scale", yscale="log", title="cost")
    for axes in (left, right):
        axes.set_xlabel("training samples so far")
        axes.grid(axis="both")
    steps, seeds = int(rows["step"].max()), counted(rows["n_seeds"], "seed")
    band = "; band: ± 1 standard deviation" if rows["n_seeds"].max() > 1 else ""
    left.set_title(f"{rows['title'].iloc[0]}, {steps} steps, {seeds}{band}")
    figure.legend(loc="outside upper center", ncols=4, handlelength=2.4)
    return figure


def figure6_rows(results: Path) -> pd.DataFrame:
    """Panel `curve`, one row a point, and panel `sample`, one row a picture."""
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


def figure6(rows: pd.DataFrame, results: Path) -> Figure:
    """The most and least informative samples, and the accuracy after removing samples."""
    figure = new_figure(PAGE, 2.75)
    *grids, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.75])
    strips = np.split(mpl_image.imread(results / "informative_images.png"), 2)
    for axes, strip, name in zip(grids, strips, ("most", "least"), strict=True):
        axes.imshow(_grid(strip), interpolation="nearest")
        axes.set(xticks=[], yticks=[], title=f"{name} informative")
        axes.spines[:].set(visible=True, color=COLOURS[name], linewidth=1.6)
    curve = rows[rows["panel"] == "curve"].sort_values("n_removed")
    for (removal, schedule), title in REMOVALS.items():
        own = curve[(curve["removal"] == removal) & (curve["schedule"] == schedule)]
        looks: dict[str, Any] = {"markersize": 3, "label": title}
        line = "o-" if schedule == "one_shot" else "^--"
        if len(own):
            banded(right, own, "n_removed", line, color=COLOURS[removal], alpha=0.12, **looks)
    total = int((curve["n_removed"] + curve["n_train"]).max())
    right.set(xlabel=f"training samples removed (of {total})", ylabel="test accuracy (%)")
    right.grid(axis="both")
    right.legend(loc="best", handlelength=2.4)
    band = "; band: ± 1 st. dev." if curve["n_seeds"].max() > 1 else ""
    right.set_title(f"{curve['title'].iloc[0]}, {counted(curve['n_seeds'], 'seed')}{band}")
    return figure


def figure7_rows(results: Path) -> pd.DataFrame:
    """One row a method, number of images a class and percentage of wrong labels."""
    rows = pd.read_csv(results / "regularized.csv")
    # A mean over the data sets that all methods have, so that lines can be compared.
    failed = rows.loc[rows["err_mean"].isna(), "dataset"]
    kept = rows[~rows["dataset"].isin(failed)]
    means = kept.groupby(["noise", "shots", "method"], sort=False).agg(
        err_mean=("err_mean", "mean"),
        n_datasets=("dataset", "size"),
        n_seeds=("n_runs", "max"),
    )
    return means.reset_index()


def figure7(rows: pd.DataFrame, results: Path) -> Figure:
    """The error against images a class on the left, against wrong labels on the right."""
    rows["shots"] = rows["shots"].astype(int)
    most = rows["shots"].max()
    figure = new_figure(PAGE, 2.8)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_xscale("log")
    for axes, column, own in (
        (left, "shots", rows[rows["noise"] == 0]),
        (right, "noise", rows[rows["shots"] == most]),
    ):
        titled = own.assign(method=own["method"].map(lambda name: TITLES.get(name, name)))
        colours = {TITLES.get(m, m): COLOURS.get(m, NEUTRAL) for m in own["method"].unique()}
        looks = {"hue": "method", "style": "method", "markers": True, "dashes": False}
        sns.lineplot(
            titled, x=column, y="err_mean", ax=axes, palette=colours, errorbar=None, **looks
        )
        ticks = sorted(rows[column].unique())
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="y")
    left.set(xlabel="training images a class", ylabel="test error, %", title="labels as they are")
    right.set(xlabel="wrong labels, %", title=f"{counted(most, 'training image')} a class")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper")
    for axes in (left, right):
        axes.get_legend().remove()
    return figure


def figure8_rows(results: Path) -> pd.DataFrame:
    """One row a fit, with the bias and the correlation of its method over the fits that are counted."""
    rows = pd.read_csv(results / "leave_one_out.csv")
    counted_rows = rows[rows["counted"]].groupby("method")
    bias = counted_rows["gap"].mean().rename("bias")
    pairs = counted_rows[["loo_err", "test_err"]]
    correlation = pairs.corr().unstack()["loo_err", "test_err"].rename("correlation")
    return rows.merge(bias, on="method", how="left").merge(correlation, on="method", how="left")


def figure8(rows: pd.DataFrame, results: Path) -> Figure:
    """Leave-one-out error against test error, a dot a fit, a panel a method; open where a class has one image."""
    methods = list(rows["method"].unique())
    figure = new_figure(PAGE, 3.0)
    panels = figure.subplots(1, len(methods), sharex=True, sharey=True, squeeze=False)[0]
    titles = list(rows["title"].unique())
    colours = dict(zip(titles, sns.color_palette("colorblind", len(titles)), strict=True))
    for axes, method in zip(panels, methods, strict=True):
        own = rows[rows["method"] == method]
        axes.axline((0, 0), slope=1, color=NEUTRAL, linestyle="--", linewidth=1)
        for title, fits in own.groupby("title", sort=False):
            colour = colours[title]
            for part, fill in ((fits[fits["counted"]], colour), (fits[~fits["counted"]], "none")):
                place = axes.scatter(
                    part["test_err"], part["loo_err"], s=16, facecolors=[fill], edgecolors=[colour]
                )
                if fill != "none":
                    place.set_label(title)
        bias, correlation = own["bias"].iloc[0], own["correlation"].iloc[0]
        said = f"bias {bias:+.1f} points, r = {correlation:.2f}".replace("-", "−")
        axes.set(
            title=f"{TITLES.get(method, method)}: {said}", xlabel="test error, %", aspect="equal"
        )
        axes.grid(axis="both")
    panels[0].set_ylabel("leave-one-out error, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def figure9_rows(results: Path) -> pd.DataFrame:
    """One row a data set, order and share."""
    return pd.read_csv(results / "summary.csv")


def figure9(rows: pd.DataFrame, results: Path) -> Figure:
    """The error against the share of images kept, a panel a data set, a line an order; crosses: a class was lost."""
    return _by_order(rows, rows[rows["lost"] > 0], ("share", "images kept, %"), KEPT)


def figure10_rows(results: Path) -> pd.DataFrame:
    """One row a data set, order, mode and step."""
    return pd.read_csv(results / "active.csv")


def figure10(rows: pd.DataFrame, results: Path) -> Figure:
    """The error against images learned, a panel a data set, a line an order; crosses: fitted from scratch."""
    scratch = rows["mode"] == "scratch"
    return _by_order(rows[~scratch], rows[scratch], ("n_train", "training images"), CHOSEN)


def _by_order(
    rows: pd.DataFrame, crosses: pd.DataFrame, x: tuple[str, str], orders: dict[str, str]
) -> Figure:
    """Lines and crosses over a column, which is named on the axis, a panel a data set, a colour an order."""
    column, label = x
    titles = list(rows["title"].unique())
    figure = new_figure(PAGE, 2.6)
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    colours = dict(zip(orders, sns.color_palette("colorblind"), strict=False))
    for axes, title in zip(panels, titles, strict=True):
        for order, own in rows[rows["title"] == title].groupby("order", sort=False):
            looks: dict[str, Any] = {"color": colours[order], "markersize": 3}
            axes.plot(own[column], own["err_mean"], "o-", label=orders[order], **looks)
            marked = crosses[(crosses["title"] == title) & (crosses["order"] == order)]
            axes.plot(marked[column], marked["err_mean"], "x", **{**looks, "markersize": 7})
        axes.set(title=title, xlabel=label)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="both")
    panels[0].set_ylabel("test error, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _grid(strip: np.ndarray) -> np.ndarray:
    """Square pictures beside each other, laid out in lines with white gaps."""
    size = len(strip)
    gap = max(1, size // 12)
    pictures = strip.reshape(size, -1, size, strip.shape[2]).swapaxes(0, 1)
    padding = ((0, -len(pictures) % ACROSS), (0, gap), (0, gap), (0, 0))
    cells = np.pad(pictures, padding, constant_values=1)
    lines = cells.reshape(-1, ACROSS, *cells.shape[1:]).swapaxes(1, 2)
    sheet = lines.reshape(len(lines) * (size + gap), ACROSS * (size + gap), -1)
    return np.pad(sheet, ((gap, 0), (gap, 0), (0, 0)), constant_values=1)


FIGURES: dict[str, tuple[Rows, Drawing]] = {
    name: (globals()[f"{name}_rows"], globals()[name])
    for name in artefacts.ARTEFACTS
    if name.startswith("figure")
}
"""Figure -> its rows, of a folder results/<scale>; and its drawing, of these rows and the folder."""
