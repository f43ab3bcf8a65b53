"""README.md shows what is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

from lqf.report import artefacts

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_the_two_commands_are_complete_lines() -> None:
    lines = TEXT.splitlines()
    install = 'pip install -e ".[test]"'

    assert f"{install} && snakemake --cores all --configfile config/demo.yaml" in lines
    assert f"{install} && pytest" in lines


def test_example_parses_and_its_names_exist() -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code is not None
    tree = ast.parse(code.group(1))

    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_every_artefact_has_a_command() -> None:
    for artefact in artefacts.ARTEFACTS.values():
        assert f"only={artefact.experiment} …`" in TEXT
        assert f"figures/demo/{artefact.name}." in TEXT


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    local = [target for target in targets if "://" not in target]

    assert local
    # What a full demo run writes may not be there yet in a working copy.
    made = ("results/", "figures/")
    assert [one for one in local if not one.startswith(made) and not (ROOT / one).exists()] == []
