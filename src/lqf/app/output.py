"""What the sub-commands print: one JSON object or a few lines; and tables as files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lqf.files import write_text


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
    """Write CSV, or JSON where the name says so."""
    if path.suffix == ".json":
        write_text(rows.to_json(orient="records", force_ascii=False, indent=1), path)
    else:
        write_text(rows.to_csv(index=False, float_format="%.6g"), path)
