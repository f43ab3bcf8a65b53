"""What the site takes from elsewhere in the repository, so that it never goes stale."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pandas as pd
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
_INCLUDE = re.compile(r"<!-- include (\S+) -->")
_NOTEBOOK = re.compile(r"\(\.\./workflow/notebooks/(\w+)\.py\)")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]+\)")


def on_files(files: Any, config: Any) -> None:
    """Add the notebooks: the executed page, where a run of the demo has left it, or the script."""
    for script in (ROOT / "workflow" / "notebooks").glob("*.py"):
        files.append(File.generated(config, notebook(script.stem), abs_src_path=str(_made(script))))


def notebook(name: str) -> str:
    """Where a notebook lies in the site."""
    made = _made(ROOT / "workflow" / "notebooks" / f"{name}.py")
    return f"notebooks/{name}{made.suffix}"


def _made(script: Path) -> Path:
    runs = ROOT / "runs" / "demo"
    pages = (runs / "notebooks" / f"{script.stem}.html", runs / f"{script.stem}.html")
    return next((page for page in pages if page.is_file()), script)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in tables, commands and files."""
    if "<!-- claims -->" in markdown:
        markdown = markdown.replace("<!-- claims -->", claims())
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands())
    markdown = _NOTEBOOK.sub(lambda found: f"({notebook(found[1])})", markdown)
    return _INCLUDE.sub(lambda found: included(ROOT / found[1]), markdown)


def claims() -> str:
    """The claims of the demo as a table."""
    rows = pd.read_csv(ROOT / "results" / "demo" / "claims.csv")
    lines = ["| claim | source | value | interval | verdict | rule |", "|---|---|---|---|---|---|"]
    for _, row in rows.iterrows():
        ends = "—" if pd.isna(row["low"]) else f"{row['low']:.3g} … {row['high']:.3g}"
        value = "—" if pd.isna(row["value"]) else f"{row['value']:.3g}"
        cells = (row["statement"], row["source"], value, ends, f"**{row['verdict']}**", row["rule"])
        lines.append("| " + " | ".join(str(one).replace("|", "\\|") for one in cells) + " |")
    return "\n".join(lines)


def commands() -> str:
    """The help of every sub-command."""
    from lqf.cli import _parser

    actions = _parser()._actions
    found = next(one for one in actions if isinstance(one, argparse._SubParsersAction))
    parts = [
        f"## lqf {name}\n\n```text\n{sub.format_help().strip()}\n```"
        for name, sub in found.choices.items()
    ]
    return "\n\n".join(parts)


def included(path: Path) -> str:
    """A file of the repository; its links to other files become plain names."""
    return _LINK.sub(r"\1", path.read_text("utf-8"))
