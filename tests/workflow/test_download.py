"""The rule that gets archives, in a workflow of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SNAKEFILE = f"""
import os
from pathlib import Path

from lqf.data import published

CONFIG, SCALE = {{"archives_folder": os.environ.get("ARCHIVES")}}, "paper"
CATALOGUE = Path("config/datasets.yaml").absolute()
PUBLISHED = published.read(CATALOGUE).datasets
shell.prefix("set -euo pipefail; PATH={Path(sys.executable).parent}:$PATH; ")

include: "{ROOT}/workflow/rules/download.smk"

rule prepare:
    default_target: True
    input:
        lambda wildcards: (
            f"{{ARCHIVES}}/{{wildcards.dataset}}/archives.json"
            if wildcards.dataset in PUBLISHED
            else []
        ),
    output:
        "data/{{dataset}}.txt",
    shell:
        "touch {{output}}"
"""


def _snakemake(
    folder: Path, *arguments: str, archives: str = ""
) -> subprocess.CompletedProcess[str]:
    (folder / "config").mkdir(exist_ok=True)
    catalogue = (ROOT / "config" / "datasets.yaml").read_text("utf-8")
    (folder / "config" / "datasets.yaml").write_text(catalogue, "utf-8")
    (folder / "Snakefile").write_text(SNAKEFILE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ARCHIVES": archives}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_only_the_papers_data_sets_are_downloaded(tmp_path: Path) -> None:
    done = _snakemake(tmp_path, "-n", "data/flowers102.txt", "data/digits.txt")

    assert done.returncode == 0, done.stderr
    assert "archives/flowers102/archives.json" in done.stdout
    assert "archives/digits" not in done.stdout


def test_archives_that_are_there_are_not_asked_for_again(tmp_path: Path) -> None:
    folder = tmp_path / "archives" / "flowers102"
    folder.mkdir(parents=True)
    (folder / "archives.json").write_text(json.dumps({"name": "flowers102", "files": []}))
    done = _snakemake(tmp_path, "-n", "data/flowers102.txt")

    assert done.returncode == 0, done.stderr
    assert "rule download" not in done.stdout


def test_a_folder_of_any_name_is_a_folder_and_no_command(tmp_path: Path) -> None:
    folder = "my $(touch pwned) 'archives'; touch pwned"
    done = _snakemake(tmp_path, "-n", "--printshellcmds", "data/flowers102.txt", archives=folder)

    assert done.returncode == 0, done.stderr
    assert shlex.quote(f"{folder}/flowers102") in done.stdout
