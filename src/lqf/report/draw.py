"""Draw one table or figure: its files, and the numbers it was drawn from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lqf.pages import write_text
from lqf.report import artefacts, seals
from lqf.report.raw import write
from lqf.report.tables import TABLES, latex, markdown


def draw(name: str, results: Path, output_folder: Path) -> list[Path]:
    """Draws a table or figure from aggregated files alone.

    Args:
        name: The artefact, a key of `lqf.report.artefacts.ARTEFACTS`.
        results: The folder results/<scale>.
        output_folder: The folder figures/<scale>.

    Returns:
        The files written, the artefact's `drawn`.

    Raises:
        ValueError: There is no artefact of that name.
        MissingResults: An aggregated file that it needs is missing.
        DamagedResults: A file of the results is not what was written.
    """
    artefact = artefacts.check_results(name, results)
    seals.check(results, artefact.sources)
    numbers = output_folder / f"{name}.csv"
    if artefact.kind == "table":
        rows, blocks, methods = TABLES[name](results)
        write(rows, numbers)
        write_text(markdown(blocks, methods), output_folder / f"{name}.md")
        write_text(latex(blocks, methods), output_folder / f"{name}.tex")
    else:
        from lqf.report.figures import FIGURES
        from lqf.report.style import save, style

        rows_of, plot = FIGURES[name]
        write(rows_of(results), numbers)
        # Drawn from the file itself, so that the file is what is seen.
        with style():
            save(plot(pd.read_csv(numbers, dtype={"shots": str}), results), output_folder, name)
    return [output_folder / file for file in artefact.drawn()]
