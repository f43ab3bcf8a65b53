"""What the sub-commands print and write: one JSON object or a few lines, and files that appear whole."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from lqf import __version__
from lqf.app.photos import thumbnail


def tell(options: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """Print results: with --json as one object, else a line for each.

    Args:
        options: The command line.
        found: Results by name; names with ``_`` for spaces.
    """
    if options.json:
        print(json.dumps(found, ensure_ascii=False, default=str))
        return
    width = max(map(len, found), default=0) + 1
    for name, value in found.items():
        label = f"{name.replace('_', ' ')}:".ljust(width)
        for line in value if isinstance(value, list) else [value]:
            print(f"{label} {'none' if line is None else line}")
            label = " " * width


def write_table(rows: pd.DataFrame, path: Path) -> None:
    """Write CSV, or JSON where the name says so.

    Args:
        rows: The table.
        path: The file.
    """
    if path.suffix == ".json":
        write_text(rows.to_json(orient="records", force_ascii=False, indent=1), path)
    else:
        write_text(rows.to_csv(index=False, float_format="%.6g"), path)


def write_text(text: str, path: Path) -> None:
    """Write a file that appears whole or not at all.

    Args:
        text: Its content.
        path: The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_page(name: str, path: Path, **values: Any) -> None:
    """Write a page from its template; everything it shows is in the one file.

    Args:
        name: The template, in lqf/app/templates.
        path: The file.
        values: What the template shows; text is escaped.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["picture"] = picture
    folder = files("lqf.app") / "templates"
    page = environment.from_string((folder / name).read_text(encoding="utf-8"))
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = (folder / "table.js").read_text(encoding="utf-8")
    write_text(page.render(**values, style=style, script=script, version=__version__), path)


def picture(pixels: NDArray[np.uint8]) -> str:
    """Returns the thumbnail of an image (S × S × 3) as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(pixels)).decode()}"
