"""Lines written by hand where a library could serve, at two commits, as a Markdown table.

    python -m benchmarks.handwritten 9a112e4 854803d

A line is a line of the file: comments, docstrings and templates count, what a program has made does not.
"""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch

SRC = "src/lqf/"
# What is done -> the files that do it, as patterns under src/lqf; the names at either commit.
ROWS = {
    "configuration: keys, bounds, problems": "config*.py amounts.py documents.py",
    "catalogue of data sets": "data/published_reader.py data/published.py",
    "own data": "data/own.py data/own_folder.py",
    "plan": "plan/*.py pages/templates/plan.txt",
    "statistics": "report/statistics.py",
    "from runs to results": "report/aggregate*.py report/raw.py",
    "measures and rules of claims": "report/measures*.py report/measured.py report/rules.py",
    "plots": "report/figure*.py report/style.py",
    "captions": "report/captions.py pages/templates/captions.rst",
    "tables": "report/tables.py",
    "pages": "pages/__init__.py report/page.py pages/templates/*.html pages/templates/*.css "
    "pages/templates/*.js",
}
# Written by hand until it was made from the keys by `python -m lqf.config_keys`.
SCHEMA = "workflow/schemas/config.schema.yaml"


def git(*words: str) -> str:
    """The output of a command of git."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def lines(commit: str, patterns: str) -> int:
    """Lines of the files under src/lqf that a pattern names; the schema counts while it has no maker."""
    names = git("ls-tree", "-r", "--name-only", "--full-tree", commit).splitlines()
    wanted = [SRC + one for one in patterns.split()]
    if "config*.py" in patterns and f"{SRC}config_keys.py" not in names:
        wanted.append(SCHEMA)
    chosen = [name for name in names if any(fnmatch(name, one) for one in wanted)]
    return sum(git("show", f"{commit}:{name}").count("\n") for name in chosen)


if __name__ == "__main__":
    before, after = sys.argv[1:3]
    print(f"| what | files in src/lqf | {before} | {after} |\n|---|---|---:|---:|")
    for what, patterns in ROWS.items():
        print(f"| {what} | {patterns} | {lines(before, patterns)} | {lines(after, patterns)} |")
