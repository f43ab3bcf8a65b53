"""Captions, made from the numbers: what is shown, at which scale, n, and what the claims became."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lqf.method import TITLES
from lqf.report import artefacts, figure3, paper
from lqf.report.tables import EDGE
from lqf.report.words import counted

_VERDICTS = {"untestable": "cannot be tested"}  # The others are said as they are called.


def caption(name: str, results: Path) -> str:
    """Writes the caption of a table or figure, as reStructuredText."""
    artefact, body = artefacts.get(name), _BODIES[name](results)
    lines = [
        f"**{artefact.label}. {artefact.title}.**",
        f"Scale: {_plain(results.name)}. {body}",
        "",
    ]
    if (file := results / artefacts.MISSING_FILE).is_file():
        lacking = (pd.read_csv(file)["experiment"] == artefact.experiment).sum()
        lines[1] += f" **Partial: {counted(lacking, 'run')} of its experiment are missing.**"
    verdicts = pd.read_csv(results / artefacts.CLAIMS_FILE).set_index("id")
    known = [claim for claim in artefact.claims if claim in verdicts.index]
    if known:
        lines += ["Claims it speaks to:", ""]
        lines += [_claim(row) for _, row in verdicts.loc[known].iterrows()]
    return "\n".join(lines).rstrip() + "\n"


def _claim(row: pd.Series) -> str:
    statement, verdict = _plain(row["statement"].rstrip(".")), row["verdict"]
    text = f"- {statement} ({_plain(row['source'])}) — **{_VERDICTS.get(verdict, verdict)} here**"
    if verdict != "not tested":
        text += f": {_number(row['value'])}"
        if pd.notna(row["low"]):
            text += f", from {_number(row['low'])} to {_number(row['high'])}"
        text += f" ({_plain(row['interval'])}, n = {int(row['n'])})"
    elif pd.notna(row["note"]):
        text += f": {_plain(row['note'])}"
    if row["paper_verdict"] != "not tested":
        text += (
            f"; by the paper's printed numbers: {row['paper_verdict']} "
            f"({_number(row['paper_value'])})"
        )
    return text + "."


def _errors(rows: pd.DataFrame) -> str:
    runs, diverged = int(rows["n_points"].sum()), int(rows["n_diverged"].sum())
    seeds = rows["n_seeds"].to_numpy()
    text = (
        f"Test error in %, mean ± standard deviation over {counted(seeds.max(), 'seed')}, "
        f"on {counted(rows['dataset'].nunique(), 'data set')}; each run takes the grid point "
        "with the least validation error. "
    )
    if seeds.min() < seeds.max():
        text += f"Cells rest on {counted(seeds, 'seed')}, as said there. "
    if "n_at_edge" in rows:
        text += "Errors are those of a second fit, with the validation images. "
    if "n_at_edge" in rows and (edge := int(rows["n_at_edge"].sum())):
        text += (
            f"{EDGE}: in at least one run nothing beyond the choice was tried (in {edge} of "
            f"{int(rows['n_runs'].sum())} runs). "
        )
    if diverged:
        text += f"{diverged} of {runs} grid points diverged; they enter no mean. "
    return text


def _table1(results: Path) -> str:
    rows = pd.read_csv(results / "comparison.csv")
    return (
        _errors(rows)
        + "Bold: the best linear method (all but NLFT). In brackets: the paper's number and, where "
        "the data set is the paper's own, the difference; — where the paper has none. LQF (exact) "
        "is ours: the same objective solved without a learning rate. The last row is the plain "
        "median over data sets of (error − NLFT) / NLFT."
    )


def _table2(results: Path) -> str:
    rows = pd.read_csv(results / "fine_grained.csv")
    return (
        _errors(rows)
        + "B-LQF and MPN-COV pool by the matrix square root of the covariance. Bold: the best "
        f"linear method (all but NLFT and MPN-COV). {_plain(paper.TABLE2_NOTE)}"
    )


def _figure1_left(results: Path) -> str:
    summary = pd.read_csv(results / "relative_summary.csv")
    seeds = pd.read_csv(results / "relative.csv")["n_seeds"].to_numpy()
    text = (
        "Lines: plain median over data sets; boxes: quartiles; whiskers: minimum and maximum; "
        f"dots: single ones ({counted(summary['n_datasets'].to_numpy(), 'data set')}), each by its mean "
        f"error over {counted(seeds, 'seed')}; diamonds: the paper's medians on its own data sets. Medians: {_medians(summary)}."
    )
    if summary["n_undefined"].max():
        text += (
            f" On {counted(summary['n_undefined'].max(), 'data set')} the increase is "
            "undefined (NLFT makes no error, or a method diverged)."
        )
    return text


def _figure1_right(results: Path) -> str:
    best = pd.read_csv(results / "elr_best.csv")
    points = pd.read_csv(results / "elr.csv")
    text = (
        f"Left: the effective learning rate η / ((1 − m) b) with the least validation error of "
        f"each of {counted(best['dataset'].nunique(), 'data set')}; box: quartiles, whiskers: "
        "minimum and maximum. Where several rates share the least error (on average "
        f"{best['n_tied'].mean():.1f} do) the middle one is taken. Right: test error above the "
        "least of the data set; thin: data sets, thick: median. Rates are "
        "absolute for all methods; LQF's multiply its preconditioned gradient."
    )
    gone = points[points["n_diverged"] > 0].groupby("method").size()
    for method, number in gone.items():
        total = int((points["method"] == method).sum())
        text += f" {TITLES.get(str(method), method)} diverged at {number} of {total} points."
    if "at_edge" in best and best["at_edge"].any():
        text += f" The best lies at an end of the grid {int(best['at_edge'].sum())} times."
    seeds = (points["n_seeds"] + points["n_diverged"]).to_numpy()
    return f"{text} Each point is the mean over {counted(seeds, 'seed')}."


def _figure2(results: Path) -> str:
    summary = pd.read_csv(results / "ablation_summary.csv")
    rows = pd.read_csv(results / "ablation.csv")
    return (
        "Relative increase of the test error over LQF when choices are put back, singly, in pairs, "
        "and all (GaF). Lines: median over data sets; boxes: quartiles; whiskers: minimum and "
        f"maximum; dots: single ones ({counted(summary['n_datasets'].to_numpy(), 'data set')}, "
        f"{counted(rows['n_seeds'].to_numpy(), 'seed')} each). Medians: {_medians(summary)}."
    )


def _figure3(results: Path) -> str:
    rows = pd.read_csv(results / "condition.csv")
    spelled = []
    for matrix, name in figure3.MATRICES.items():
        phases = dict(list(rows[rows["matrix"] == matrix].groupby("phase")))
        changes = ", ".join(
            f"{title} {_typical(phases['init'][column])} → {_typical(phases['end'][column])}"
            for title, column in (
                ("largest eigenvalue", "lambda_max"),
                ("λ1/λk", "spread"),
                ("effective dimension", "effective_dimension"),
            )
        )
        spelled.append(f"{name}: {changes}")
    return (
        f"{_plain(rows['title'].iloc[0])}, {counted(rows['seed'].nunique(), 'seed')}. Before → after "
        f"fine-tuning: {_plain('; '.join(spelled))}. k = {rows['k'].iloc[0]}, the number of samples; "
        f"the effective dimension Σ λ/(λ + ridge) is at the weight decay of the fit. Drawn are "
        f"eigenvalues above {figure3.SHOWN:g} of the largest. The paper (κ "
        f"{_number(paper.CONDITION['init'])} → {_number(paper.CONDITION['end'])}) defines neither "
        "its matrix nor its κ; cut off at a fraction of the largest eigenvalue, κ is the inverse of "
        "that fraction for any matrix."
    )


def _figure4(results: Path) -> str:
    rows = pd.read_csv(results / "kshot.csv", dtype={"shots": str})
    means = rows.groupby("shots", sort=False)["rel_diff_pct"].mean()
    spelled = ", ".join(f"{shots}: {_number(value)} %" for shots, value in means.items())
    return (
        "(LQF − NLFT) / NLFT of the mean test errors over draws, on the same draws for both. "
        "Boxes: quartiles over data sets; whiskers: the last value within 1.5 times their "
        "distance; diamonds: outliers. Means over data sets by samples a class: "
        f"{spelled}. {counted(rows['dataset'].nunique(), 'data set')}, "
        f"{counted(rows['n_seeds'].to_numpy(), 'draw')} each (one a seed). Hyper-parameters are chosen on at "
        "most as many further images a class, which stay out of training."
    )


def _figure5(results: Path) -> str:
    rows = pd.read_csv(results / "online.csv")
    last = rows[rows["step"] == rows["step"].max()].set_index("method")["acc_mean"]
    names = {"inc": "step by step", "scratch": "from scratch"}
    ends = []
    for method, value in last.items():
        title, _, mode = str(method).rpartition("_")
        ends.append(f"{TITLES.get(title, title)} {names[mode]} {_number(value)} %")
    capped = int(rows["n_capped"].sum())
    text = (
        f"{_plain(rows['title'].iloc[0])}: test accuracy (mean and ± 1 standard deviation over "
        f"{counted(rows['n_seeds'].to_numpy(), 'seed')}) after each of {rows['step'].max()} steps, "
        "trained on all samples so far from the last solution (step by step) or from the "
        f"pre-trained weights (from scratch), and training samples visited so far. At the last step: "
        f"{', '.join(ends)}."
    )
    if capped:
        text += f" {capped} fits ended at the limit of epochs before the stop rule held."
    return text


def _figure6(results: Path) -> str:
    scores = pd.read_csv(results / "informativeness_scores.csv")
    removal = pd.read_csv(results / "removal.csv")
    ranks = pd.read_csv(results / "informativeness_correlation.csv")
    means = ranks.groupby("score", sort=False)["spearman"].mean()
    seeds = counted(removal["n_seeds"].to_numpy(), "seed")
    exact = not scores["fsi_exact"].isna().all()
    scored = "exact leave-one-out" if exact else "in compressed coordinates of the Jacobian"
    against = (
        "Spearman correlation with the exact score: "
        f"eq. 8 as printed {_number(means['fsi_eq8'])}, K-FAC {_number(means['fsi_kfac'])}."
        if exact
        else "The exact score was not measured at this size."
    )
    return (
        f"{_plain(removal['title'].iloc[0])}, {counted(scores['seed'].nunique(), 'seed')}, "
        f"{int(scores.groupby('seed').size().max())} training samples. Left: the samples with the "
        f"most and the least functional sample information (LQF eq. 9, {scored}) of the "
        "first seed. Right: test accuracy of exact LQF retrained without the most or least "
        "informative or random samples; dashed: scored again after every 5 % removed; mean and "
        f"± 1 standard deviation over {seeds}. {against} "
        "The paper says accuracy in the caption and error in the text; this is accuracy."
    )


def _medians(summary: pd.DataFrame) -> str:
    medians = zip(summary["method"], summary["median"], strict=True)
    return "; ".join(f"{TITLES.get(one, one)} {_number(median)} %" for one, median in medians)


def _typical(values: pd.Series) -> str:
    """The geometric mean: ratios are compared."""
    return _number(float(np.exp(np.log(values).mean())))


def _number(value: float) -> str:
    """Three significant digits, with a true minus."""
    if pd.isna(value):
        return "—"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def _plain(text: str) -> str:
    """Escapes what reStructuredText, or Jinja around it, would read as markup."""
    for mark in ("\\", "*", "`", "|", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("{", "(").replace("}", ")")


_BODIES = {
    "table1": _table1,
    "table2": _table2,
    "figure1_left": _figure1_left,
    "figure1_right": _figure1_right,
    "figure2": _figure2,
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
    "figure6": _figure6,
}
