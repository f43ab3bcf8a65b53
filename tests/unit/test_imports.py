"""What is read while a workflow is being planned imports nothing that takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "scipy", "requests", "PIL", "numpy")


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import lqf.config, lqf.report.artefacts, lqf.devices, lqf.data.catalogue", set()),
        ("from lqf.data.published import read; read()", set()),
        ("from lqf.cli import main; main(['plan'])", set()),
        ("import lqf.data.packed", {"numpy"}),
    ],
)
def test_planning_imports_nothing_heavy(code: str, allowed: set[str], tmp_path: Path) -> None:
    code += f"; import sys; print(*(one for one in {HEAVY} if one in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True
    )

    assert {*done.stdout.splitlines()[-1].split()} <= allowed
