"""What README and documentation tell a person to type works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import photographs
import pytest
import torch

from lqf.cli import _parser, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    )
]


def commands(page: Path) -> list[list[str]]:
    """The lines of a page that call ``lqf``, without what stands behind a comment sign."""
    # Pairs, so that the end of a block in a language does not count as the beginning of one without.
    blocks = re.findall(r"```(\w*)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("lqf ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("code", PYTHON)
def test_python_can_be_pasted(code: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        exec(compile(code, "example", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        assert _parser().parse_args(words).command == words[0]


def test_commands_run_those_of_the_tutorial_from_top_to_bottom(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = photographs.write_weights(Path("weights.pth"))
    for name, colour in (("cat", (200, 60, 60)), ("dog", (60, 60, 200))):
        for i in range(5):
            photographs.write_photo(Path("photos", name, f"{i}.jpg"), i, colour)
        photographs.write_photo(Path("more", name, "new.jpg"), 9, colour)
    network = ["--network", photographs.NETWORK, "--weights", str(weights), "--size", "32"]
    for scale in ("demo", "mine"):
        shutil.copytree(ROOT / "results" / "demo", Path("results", scale))
    Path("config").symlink_to(ROOT / "config")
    # What config/own-data.yaml names.
    shutil.copytree("photos", Path("images", "train"))
    pages = [ROOT / "docs" / "tutorial.md", *PAGES]
    lines = dict.fromkeys(shlex.join(words) for page in pages for words in commands(page))
    told = [words for words in map(shlex.split, lines) if words[0] != "example"]

    assert len(told) == 16
    for words in told:
        assert main([*words, *(network if words[0] in {"fit", "audit"} else [])]) == 0
    assert Path("without.lqf.receipt.json").is_file()
    assert Path("audit", "audit.html").is_file()


def test_lines_written_by_hand_are_counted_as_the_table_says() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    (call,) = re.findall(r"python -m (benchmarks\.handwritten .+)` counts", page)
    module, *commits = call.split()
    for one in commits:
        if subprocess.run(["git", "cat-file", "-e", one], cwd=ROOT, check=False).returncode:
            pytest.skip("needs the history in git")
    words = [sys.executable, "-m", module, *commits]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)

    numbers = re.compile(r"^\| ([^|]+) \|.*?\| (\d+) \| (\d+) \|", re.MULTILINE)
    assert numbers.findall(done.stdout) == numbers.findall(page) != []


def workflows() -> list[str]:
    """The calls of snakemake in blocks and sentences, `…` being the demo's configuration."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        for line in re.findall(r"(?:^|&& |`)snakemake\b[^`\n#]*", text, re.MULTILINE):
            call = line.strip("`& ").replace("…", "--configfile config/demo.yaml")
            found[" ".join(call.split())] = None
    return [call for call in found if call != "snakemake"]


def test_workflows_are_planned(tmp_path: Path) -> None:
    for name in ("Snakefile", "workflow", "config", "profiles", "src", "benchmarks", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("results", "figures"):
        shutil.copytree(ROOT / name, tmp_path / name)
    photographs.write_weights(tmp_path / "weights.pth")
    sets = "caltech101_20 cub_25 oxford_pets_10perclass intel_scenes_6 dtd_10 chest_xray_2"
    # The first is what config/own-data.yaml names.
    for place in ("images", *sets.split(), "omniglot_32"):
        for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
            for i in range(12 if "train" in name else 1):
                photographs.write_photo(tmp_path / place / name / f"{i}.png", i, (90, 60, 60))
    calls = [[*shlex.split(call)[1:], "--dry-run", "--quiet", "all"] for call in workflows()]
    assert len(calls) > 20
    # One process for all of them; Snakemake ends each with SystemExit.
    program = (
        "import sys\n"
        "from snakemake.cli import main\n"
        f"for call in {calls!r}:\n"
        "    try:\n"
        "        main(call)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, call\n"
    )
    known = {"LQF_PHOTOS": ".", "LQF_PHOTOS_WEIGHTS": "weights.pth"}

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | known,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    for name in ("docs", "benchmarks", "config", "results/demo", "workflow/notebooks"):
        shutil.copytree(ROOT / name, copy / name)
    executed = copy / "runs" / "demo" / "notebooks" / "prior.html"
    executed.parent.mkdir(parents=True)
    executed.write_text("<h1>executed</h1>", "utf-8")
    shutil.copy(ROOT / "mkdocs.yml", copy)
    (copy / "src").symlink_to(ROOT / "src")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "site"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = copy / "site"
    assert "lqf audit" in (site / "reference" / "commands" / "index.html").read_text("utf-8")
    links = re.findall(
        r'href="(\w+\.(?:py|html))"', (site / "notebooks/index.html").read_text("utf-8")
    )
    assert "prior.html" in links
    assert len(links) == 6
    assert all((site / "notebooks" / link).is_file() for link in links)


def test_datalab_takes_leave_one_out_probabilities() -> None:
    pytest.importorskip("datasets", reason="needs cleanlab[datalab]")
    from cleanlab import Datalab

    from lqf import LQF
    from lqf.app.example import make_example

    network, task = make_example()
    model = LQF(network, classes=5, device="cpu").fit(task.images, task.labels)
    chances = (model.leave_one_out().outputs / model.temperature_).softmax(1).numpy()

    lab = Datalab({"y": task.labels.numpy()}, label_name="y", verbosity=0)
    lab.find_issues(pred_probs=chances, issue_types={"label": {}})

    found = set(lab.get_issues("label").query("is_label_issue").index)
    assert len(found & set(task.planted.tolist())) >= 4
