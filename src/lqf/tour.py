"""Execute a notebook into one HTML file: ``python -m lqf.tour NOTEBOOK.py OUTPUT.html``.

The notebook is a jupytext ``py:percent`` script. It runs in the current folder, and the page
loads nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lqf.files import write_text


def execute(notebook: Path, output: Path) -> None:
    """Run every cell of a ``py:percent`` script, and write one HTML page, whole or not at all.

    Raises:
        ValueError: If a cell fails; the message holds the cell and its error.
    """
    import jupytext  # type: ignore[import-untyped]
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter
    from tqdm import tqdm

    content = jupytext.read(notebook)
    total = sum(cell.cell_type == "code" for cell in content.cells)
    with tqdm(total=total, desc=notebook.stem, unit="cell", file=sys.stderr) as bar:
        client = NotebookClient(
            content,
            kernel_name="python3",
            timeout=None,
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise ValueError(f"a cell of {notebook} failed: {error}") from None
    exporter = HTMLExporter(embed_images=True)
    for library in ("mathjax", "require_js", "jquery", "mermaid_js", "mermaid_layout_elk_js"):
        setattr(exporter, f"{library}_url", "")
    page, _ = exporter.from_notebook_node(content)
    write_text(page, output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, or that of this process: 0, or 1 after an error, told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m lqf.tour", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args(arguments)
    try:
        execute(options.notebook, options.output)
    except (ValueError, FileNotFoundError) as error:
        print(f"tour: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
