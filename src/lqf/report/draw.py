"""Draw one table or figure: its files, and the numbers it was drawn from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lqf.files import write_text
from lqf.report import artefacts
from lqf.report.raw import write
from lqf.report.tables import TABLES, latex, markdown


def draw(name: str, results: Path, output_folder: Path) -> None:
    """Draws a table or figure from aggregated files alone.

    Args:
        name: The artefact, a key of `lqf.report.artefacts.ARTEFACTS`.
        results: The folder results/<scale>.
        output_folder: The folder figures/<scale>.

    Raises:
        MissingResults: An aggregated file that it needs is missing.
        DamagedResults: A file of the results is not what was written.
    """
    numbers = output_folder / f"{name}.csv"
    if artefacts.checked(name, results).kind == "table":
        rows, blocks, methods = TABLES[name](results)
        write(rows, numbers)
        write_text(markdown(blocks, methods), output_folder / f"{name}.md")
        write_text(latex(blocks, methods), output_folder / f"{name}.tex")
        return
    from lqf.report.figures import FIGURES
    from lqf.report.style import save, style

    rows_of, plot = FIGURES[name]
    write(rows_of(results), numbers)
    # Drawn from the file itself, so that the file is what is seen.
    with style():
        save(plot(pd.read_csv(numbers, dtype={"shots": str}), results), output_folder, name)
