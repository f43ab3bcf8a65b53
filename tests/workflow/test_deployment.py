"""Ways to run the workflow elsewhere: from another workflow, in conda environments, in a container."""

from __future__ import annotations

import fnmatch
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from PIL import Image

ROOT = Path(__file__).parents[2]
MAKE = runpy.run_path(str(ROOT / "workflow/envs/make.py"))

OUTER = f"""
configfile: "mine.yaml"
module lqf:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config
use rule * from lqf as lqf_*
rule all:
    default_target: True
    input: rules.lqf_all.input
"""
MINE = """
scale: outer
only: comparison
own: {mine: {folder: images}}
datasets: [digits, mine]
experiments: {comparison: {datasets: [digits, mine], methods: [nlft, lqf]}}
"""
# Prints what every job's command begins with, for one way of deployment.
PREFIX = f"""
from snakemake.settings.types import DeploymentMethod
workflow.deployment_settings.deployment_method = {{DeploymentMethod[config["way"]]}}
del config["way"]
include: "{ROOT}/workflow/Snakefile"
Path("prefix").write_text(shell._process_prefix)
sys.exit()
"""


def snakemake(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "Snakefile").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "2", *arguments],
        cwd=folder, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_another_workflow_adds_a_data_set(tmp_path: Path) -> None:
    for name in ("left", "right"):
        for number in range(12):
            file = tmp_path / "images/train" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (number, 0, 0)).save(file)
    (tmp_path / "mine.yaml").write_text(MINE)

    done = snakemake(tmp_path, OUTER)

    assert done.returncode == 0, done.stdout[-4000:]
    # Two data sets, two methods, three seeds; own data and the demo's digits.
    assert re.search(r"^lqf_train +12$", done.stdout, re.MULTILINE)
    assert re.search(r"^lqf_prepare +2$", done.stdout, re.MULTILINE)
    assert "figures/outer/table1.csv" in done.stdout


def test_the_workflow_may_lie_in_a_folder_of_any_name(tmp_path: Path) -> None:
    home = tmp_path / "my $(touch pwned) 'own'; touch pwned"
    for name in ("workflow", "config", "results/demo"):
        shutil.copytree(ROOT / name, home / name)
    notebook, page = "runs/demo/notebooks/prior.html", "figures/demo/table1.html"
    command = ["--configfile", str(home / "config/demo.yaml"), "--directory", str(home)]
    text = f"include: {str(home / 'workflow/Snakefile')!r}"

    done = snakemake(
        tmp_path, text, *command, "--printshellcmds", "runs/demo/tour.html", notebook, page
    )

    assert done.returncode == 0, done.stdout[-4000:]
    commands = re.findall(r"^Shell command: (.+)$", done.stdout, re.MULTILINE)
    wanted = {"page_head.html", "tour.py", "prior.py"}
    for words in map(shlex.split, commands):
        wanted -= {Path(one).name for one in words if one.startswith(str(home / "workflow"))}
    assert not wanted
    assert not [*tmp_path.rglob("pwned")]


@pytest.mark.parametrize("name", MAKE["TITLES"])
def test_environments_of_the_rules_are_those_of_pyproject(name: str) -> None:
    text = (ROOT / f"workflow/envs/{name}.yaml").read_text("utf-8")

    assert text == MAKE["environment"](name), "run python workflow/envs/make.py"
    assert yaml.safe_load(text)["channels"] == ["conda-forge", "nodefaults"]


def test_every_rule_with_a_command_names_an_environment() -> None:
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        text = file.read_text("utf-8")
        named = re.findall(r'conda:\s+"([^"]+)"', text)
        assert len(named) == len(re.findall(r"^ +shell:$", text, re.MULTILINE)), file
        assert all((file.parent / one).is_file() for one in named)


def test_a_job_in_a_conda_environment_runs_its_python_and_this_package(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    snakemake(tmp_path, PREFIX, "--config", "way=CONDA")
    prefix = (tmp_path / "prefix").read_text()
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])

    code = "import lqf, sys; print(lqf.__file__)"
    found = subprocess.run(
        ["bash", "-c", f"{prefix} command -v python; python -c '{code}'"],
        env={"PATH": path}, cwd=tmp_path, text=True, check=True, capture_output=True,
    )  # fmt: skip

    first, package = found.stdout.split()
    assert first == str(tmp_path / "bin/python")
    assert Path(package).resolve() == ROOT / "src/lqf/__init__.py"


def test_a_job_in_a_container_runs_what_is_there(tmp_path: Path) -> None:
    snakemake(tmp_path, PREFIX, "--config", "way=APPTAINER")

    assert (tmp_path / "prefix").read_text() == "set -euo pipefail; "


def test_jobs_that_train_nothing_do_without_the_heavy_packages(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {sorted(MAKE['HEAVY'])}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from lqf.cli import main\n"
        "import lqf.report.partial, lqf.data.archives, mistune\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    settings = '{"image_size": 16}'
    command = ["prepare", "--name", "digits", "--output", "digits", "--settings", settings]

    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path, text=True, check=False, capture_output=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits/images.npy").is_file()


def test_container_recipe_takes_the_tested_versions() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    copied = [
        file for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for file in line.split()
    ]
    (version,) = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.MULTILINE)

    assert {"pyproject.toml", "constraints.txt", "src"} <= set(copied)
    assert all((ROOT / file).exists() for file in copied)
    assert ignored[0] == "*"
    assert all(any(fnmatch.fnmatch(file, one[1:]) for one in ignored[1:]) for file in copied)
    assert "--constraint constraints.txt" in text
    assert SpecifierSet(">=3.11").contains(version)
    assert 'container: os.environ.get("LQF_IMAGE"' in re.sub(
        r"container:\s+", "container: ", (ROOT / "workflow/Snakefile").read_text("utf-8")
    )
