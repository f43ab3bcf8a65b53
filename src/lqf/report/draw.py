"""Draw one table or figure: its files, the numbers it was drawn from, and its caption."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas as pd

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
        output_folder: The folder figures/<scale>; it is made if need be.

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
    if artefact.kind == "table":
        _table(name, results, output_folder)
    else:
        _figure(name, results, output_folder)
    _write_text(output_folder / f"{name}.rst", captions.caption(name, results))
    return [output_folder / file for file in artefact.outputs()]


def _table(name: str, results: Path, folder: Path) -> None:
    numbers, blocks, methods = TABLES[name](results)
    write(numbers, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", markdown(blocks, methods))
    _write_text(folder / f"{name}.tex", latex(blocks, methods))


def _figure(name: str, results: Path, folder: Path) -> None:
    module = import_module(f"lqf.report.{name}")
    data: Callable[[Path], pd.DataFrame] = module.data
    numbers = folder / f"{name}.csv"
    write(data(results), numbers)
    # Drawn from the file itself, so that the file is what is seen.
    rows = pd.read_csv(numbers, dtype={"shots": str})
    with style():
        save(module.plot(rows, results), folder, name)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
