"""The report of a run as one page that stands alone: verdicts, tables, figures, and what made them."""

from __future__ import annotations

import argparse
import html
import io
import os
import platform
import re
from collections.abc import Hashable
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mistune
import pandas as pd
from docutils.core import publish_parts
from markupsafe import Markup

from lqf.pages import write_page
from lqf.report import artefacts, seals, style
from lqf.report.claims import processors
from lqf.report.words import digits

#: Verdicts in the order of the page, with the style of each.
VERDICTS = {
    "holds": "good",
    "fails": "bad",
    "undecided": "unsure",
    "untestable": "quiet",
    "not tested": "quiet",
}
_PACKAGES = ("lqf", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "snakemake")
_DEVIATIONS = Path("docs", "deviations.md")
_TIMES = Path("benchmarks", "results")
_RUNS = Path("runs")

WATTS = (5, 10)
"""Watts of a core that energy is estimated with: the rated power of a server's processor shared among its
cores (Xeon Platinum 8480+: 350 W by 56; 8280: 205 W by 28), with a margin to both sides."""


def report_command(options: argparse.Namespace) -> dict[str, Any]:
    """Write the report of a folder results/SCALE."""
    figures = options.figures or Path("figures", options.results.name)
    output = options.output or options.results / "report.html"
    return {"page": output, **write_report(options.results, figures, output)}


def write_report(results: Path, figures: Path, output: Path) -> dict[str, int]:
    """Write the page of the folders results/SCALE and figures/SCALE.

    Returns:
        How many claims have each verdict.

    Raises:
        ValueError: If the folder holds no claims, or damaged ones.
    """
    path = results / artefacts.CLAIMS_FILE
    if not path.is_file():
        raise ValueError(
            f"{results} holds no {artefacts.CLAIMS_FILE}: give a folder results/SCALE of a run that is "
            "whole."
        )
    seals.check(results, [artefacts.CLAIMS_FILE])
    claims = [_claim(row) for _, row in pd.read_csv(path).iterrows()]
    present = [one["verdict"] for one in claims]
    counts = {verdict: present.count(verdict) for verdict in VERDICTS if verdict in present}
    shown = {one.label: _shown(one, results, figures) for one in artefacts.ARTEFACTS.values()}
    write_page(
        "report.html",
        output,
        scale=results.name,
        claims=sorted(claims, key=lambda one: list(VERDICTS).index(one["verdict"])),
        counts=counts,
        styles=VERDICTS,
        shown=[one for one in shown.values() if one is not None],
        lacking=_lacking(results / artefacts.MISSING_FILE),
        missing=[label for label, one in shown.items() if one is None],
        curves=_learning_curves(results),
        seconds=_seconds(results.name),
        watts=WATTS,
        runs=_RUNS / results.name.removesuffix("_partial"),
        notebooks=_notebooks(_RUNS / results.name.removesuffix("_partial"), output),
        deviations=_markdown(_DEVIATIONS.read_text("utf-8")) if _DEVIATIONS.is_file() else None,
        environment=_environment(),
        processors=processors(results),
    )
    return counts


def _lacking(path: Path) -> list[tuple[str, str]]:
    """Runs that a partial result goes without, and why."""
    if not path.is_file():
        return []
    rows = pd.read_csv(path, dtype=str).fillna("").groupby(["why", "dataset"], sort=False)
    return [
        (f"{dataset}: {', '.join(dict.fromkeys(own['method'] + ' seed ' + own['seed']))}", str(why))
        for (why, dataset), own in rows
    ]


def _claim(row: pd.Series) -> dict[str, str]:
    """A claim in words: what, where from, how much, and why the verdict."""
    ours = digits(row["value"])
    if pd.notna(row["low"]):
        ours += f" ({digits(row['low'])} … {digits(row['high'])})"
    told = {key: str(row[key]) for key in ("id", "statement", "source", "verdict", "measure")}
    shown = [one.experiment for one in artefacts.ARTEFACTS.values() if row["id"] in one.claims]
    named = re.findall(r"experiment=(\w+)", told["measure"])
    told["on"] = [*named, *shown, "—"][0].replace("_", " ")
    told["n"] = f"n = {int(row['n'])}" if row["n"] else ""
    return {**told, "ours": ours, "paper": digits(row["paper_value"]), "why": _reason(row)}


def _reason(row: pd.Series) -> str:
    parts = [str(row["note"])] if isinstance(row["note"], str) else []
    if row["verdict"] in {"holds", "fails", "undecided"}:
        parts.append(f"{row['interval']}; {row['rule']}")
    return "; ".join(parts) or "not measured in this run"


def _shown(artefact: artefacts.Artefact, results: Path, figures: Path) -> dict[str, Any] | None:
    """The table or figure, or None if it has not been drawn."""
    paths = {kind: figures / f"{artefact.name}.{kind}" for kind in ("csv", "rst", "md", "png")}
    table = artefact.kind == "table"
    if not all(paths[kind].is_file() for kind in ("csv", "rst", "md" if table else "png")):
        return None
    caption = paths["rst"].read_text("utf-8")
    first = caption.split("Claims it speaks to:")[0].replace("*", "").replace("\\", "")
    return {
        "artefact": artefact,
        "caption": _restructured(caption),
        "body": _markdown(paths["md"].read_text("utf-8")) if table else "",
        "picture": None if table else paths["png"].read_bytes(),
        "alt": " ".join(first.split()),
        "numbers": paths["csv"].read_text("utf-8"),
        "command": f"python -m lqf draw {artefact.name} --results {results} --output {figures}",
        "sources": [str(results / name) for name in artefact.sources],
    }


def _learning_curves(results: Path) -> bytes | None:
    """Test error against images a class, means over data sets, as PNG; None if it was not measured."""
    path = results / "kshot.csv"
    if not path.is_file():
        return None
    seals.check(results, [path.name])
    means = pd.read_csv(path).groupby("per_class")[["err_nlft", "err_lqf"]].mean()
    buffer = io.BytesIO()
    with style.style():
        figure = style.new_figure(style.COLUMN, 2.4)
        axes = figure.subplots()
        for method in ("nlft", "lqf"):
            axes.plot(
                means[f"err_{method}"], "o-", color=style.COLOURS[method], label=method.upper()
            )
        axes.set(xlabel="training images a class", ylabel="test error (%)", xscale="log")
        axes.set_ylim(0, 1.1 * means.to_numpy().max())
        axes.set_xticks(means.index, [str(one) for one in means.index], minor=False)
        axes.minorticks_off()
        axes.legend()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _restructured(text: str) -> Markup:
    settings = {"raw_enabled": False, "file_insertion_enabled": False, "report_level": 5}
    parts = publish_parts(text, writer="html5", settings_overrides=settings)
    return Markup(parts["body"])


def _markdown(text: str) -> Markup:
    page = mistune.create_markdown(escape=True, plugins=["table"])(text)
    return Markup(str(page).replace("<table>", '<div class="wide"><table>')).replace(
        Markup("</table>"), Markup("</table></div>")
    )


def _seconds(scale: str) -> list[dict[Hashable, Any]]:
    """Jobs and core-seconds of each part of the run, where they were measured."""
    path = _TIMES / f"{scale}_times.csv"
    if not path.is_file():
        return []
    return pd.read_csv(path).to_dict("records")


def _notebooks(runs: Path, output: Path) -> dict[str, str]:
    """How the page at `output` links to the executed notebooks of a folder runs/SCALE -> their titles."""
    found = {}
    for path in [runs / "tour.html", *sorted((runs / "notebooks").glob("*.html"))]:
        if path.is_file():
            heading = re.search(r"<h1[^>]*>([^<]+)", path.read_text("utf-8"))
            link = os.path.relpath(path.resolve(), output.parent.resolve())
            found[quote(Path(link).as_posix())] = (
                html.unescape(heading[1]) if heading else path.stem
            )
    return found


def _environment() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
