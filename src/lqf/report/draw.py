"""Draw one table or figure: its files, the numbers it was drawn from, and its caption."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pandas as pd

from lqf.pages import write_text
from lqf.report import artefacts, captions
from lqf.report.raw import write
from lqf.report.style import save, style
from lqf.report.tables import TABLES, latex, markdown


class MissingResults(ValueError):
    """An aggregated file that an artefact is drawn from does not exist."""


def draw(name: str, results: Path, output_folder: Path) -> list[Path]:
    """Draws a table or figure from aggregated files alone.

    Args:
        name: The artefact, a key of `lqf.report.artefacts.ARTEFACTS`.
        results: The folder results/<scale>.
        output_folder: The folder figures/<scale>.

    Returns:
        The files written, the artefact's `outputs`.

    Raises:
        ValueError: There is no artefact of that name.
        MissingResults: An aggregated file that it needs is missing.
    """
    artefact = artefacts.get(name)
    for source in artefact.inputs():
        if not (results / source).is_file():
            raise MissingResults(
                f"{name}: {results / source} does not exist; run the workflow, or "
                "`python -m lqf aggregate` and `python -m lqf claims`, first."
            )
    (_table if artefact.kind == "table" else _figure)(name, results, output_folder)
    write_text(captions.caption(name, results), output_folder / f"{name}.rst")
    return [output_folder / file for file in artefact.outputs()]


def _table(name: str, results: Path, folder: Path) -> None:
    numbers, blocks, methods = TABLES[name](results)
    write(numbers, folder / f"{name}.csv")
    write_text(markdown(blocks, methods), folder / f"{name}.md")
    write_text(latex(blocks, methods), folder / f"{name}.tex")


def _figure(name: str, results: Path, folder: Path) -> None:
    module = import_module(f"lqf.report.{name}")
    numbers = folder / f"{name}.csv"
    write(module.data(results), numbers)
    # Drawn from the file itself, so that the file is what is seen.
    rows = pd.read_csv(numbers, dtype={"shots": str})
    with style():
        save(module.plot(rows, results), folder, name)
