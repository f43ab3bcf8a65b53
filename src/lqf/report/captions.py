"""Captions, made from the numbers: what is shown, at which scale, n, and what the claims became."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined, Template

from lqf.files import write_text
from lqf.method import TITLES
from lqf.report import artefacts, paper
from lqf.report.tables import EDGE
from lqf.report.words import KEPT, MATRICES, SHOWN, counted, digits

_VERDICTS = {"untestable": "cannot be tested"}  # The others are said as they are called.


def caption(name: str, results: Path, output_folder: Path) -> None:
    """Writes the caption of a table or figure, as reStructuredText.

    Args:
        name: The artefact, a key of `lqf.report.artefacts.ARTEFACTS`.
        results: The folder results/<scale>, with the claims.
        output_folder: The folder figures/<scale>.

    Raises:
        MissingResults: An aggregated file that it needs is missing.
        DamagedResults: A file of the results is not what was written.
    """
    artefact = artefacts.checked(name, results, artefacts.CLAIMS_FILE)
    text = f"**{artefact.label}. {artefact.title}.**\n"
    text += f"Scale: {_plain(results.name)}. {body(name, results)}"
    if (file := results / artefacts.MISSING_FILE).is_file():
        lacking = (pd.read_csv(file)["experiment"] == artefact.experiment).sum()
        text += f" **Partial: {counted(lacking, 'run')} of its experiment are missing.**"
    verdicts = pd.read_csv(results / artefacts.CLAIMS_FILE).set_index("id")
    known = [claim for claim in artefact.claims if claim in verdicts.index]
    if known:
        text += "\n\nClaims it speaks to:\n"
    for _, row in verdicts.loc[known].iterrows():
        text += f"\n{_claim(row)}"
    write_text(text.rstrip() + "\n", output_folder / artefact.caption)


def body(name: str, results: Path) -> str:
    """Says what a table or figure shows, without its claims."""
    tables = [results / file for file in artefacts.ARTEFACTS[name].sources if file.endswith(".csv")]
    macro = getattr(_template().module, name)
    text: str = macro(**{file.stem: pd.read_csv(file) for file in tables})
    return " ".join(text.split())


@cache
def _template() -> Template:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"counted": counted, "digits": digits, "plain": _plain}
    # Ratios are compared, so their mean is geometric.
    environment.filters["typical"] = lambda values: float(np.exp(np.log(values).mean()))
    environment.globals |= {"edge": EDGE, "titles": TITLES, "paper": paper}
    environment.globals |= {"matrices": MATRICES, "shown": SHOWN, "kept": KEPT}
    text = (files("lqf.pages") / "templates" / "captions.rst").read_text(encoding="utf-8")
    return environment.from_string(text)


def _claim(row: pd.Series) -> str:
    statement, verdict = _plain(row["statement"].rstrip(".")), row["verdict"]
    text = f"- {statement} ({_plain(row['source'])}) — **{_VERDICTS.get(verdict, verdict)} here**"
    if verdict != "not tested":
        text += f": {digits(row['value'])}"
        if pd.notna(row["low"]):
            text += f", from {digits(row['low'])} to {digits(row['high'])}"
        text += f" ({_plain(row['interval'])}, n = {int(row['n'])})"
    elif pd.notna(row["note"]):
        text += f": {_plain(row['note'])}"
    if row["paper_verdict"] != "not tested":
        printed = f"{row['paper_verdict']} ({digits(row['paper_value'])})"
        text += f"; by the paper's printed numbers: {printed}"
    return text + "."


def _plain(text: str) -> str:
    """Escapes what reStructuredText, or Jinja around it, would read as markup."""
    for mark in ("\\", "*", "`", "|", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("{", "(").replace("}", ")")
