"""Every rule, method and experiment of the paper's plan, run once on images and weights without meaning.

Snakemake plans, and one process runs the commands that it prints, so that torch is imported once
and not by each of fifty jobs. ``LQF_PAPER_JOBS=1 pytest tests/workflow/test_paper_jobs.py`` lets
Snakemake itself run them, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lqf import config, method
from lqf.data.folder import write_description, write_index
from lqf.report import artefacts

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "tests/workflow/paper_jobs.yaml"
COUNTS = {"train": 7, "val": 2, "test": 2}
#: GB, of which a quarter holds no Jacobian, and not the Gram matrix of informativeness.
MEMORY = "0.0006"
#: Runs in one process what standard input names, a command a line.
DRIVER = """
import logging, shlex, subprocess, sys
from lqf.cli import main
for line in sys.stdin:
    words = shlex.split(line)
    if words[:3] != ["python", "-m", "lqf"]:
        subprocess.run(["bash", "-euc", line], check=True)
        continue
    sys.argv = ["lqf", *words[3:]]
    logging.getLogger().handlers.clear()  # each job logs to its own file
    if main(words[3:]):
        sys.exit(f"failed: {line}")
"""


def make_data(folder: Path, side: int, seed: int) -> None:
    """A prepared data set of noise in three colours."""
    folder.mkdir(parents=True)
    classes = ("first", "second", "third")
    generator = np.random.default_rng(seed)
    images, rows = [], []
    for split, count in COUNTS.items():
        for number in range(count):
            for label, name in enumerate(classes):
                image = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
                image[..., label] |= 128
                images.append(image)
                rows.append((name, label, split, f"{split}{number}", f"{len(rows):064d}"))
    np.save(folder / "images.npy", np.stack(images))
    write_index(folder, rows)
    write_description(folder, {"name": folder.name, "classes": list(classes)})
    Image.fromarray(images[0]).save(folder / "contact_sheet.png")


def write_overlay(folder: Path, network: str) -> Path:
    """The configuration, with its data sets prepared and its weights in a file."""
    import torch
    from safetensors.torch import save_file

    from lqf.networks import build_features

    settings = yaml.safe_load(OVERLAY.read_text("utf-8"))
    for seed, name in enumerate(settings["datasets"]):
        make_data(folder / "data/paper_jobs" / name, settings["stored_size"], seed)
    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    save_file(build_features(network, "relu", 0.0).features.state_dict(), weights)
    settings["backbone"]["network"] = network
    settings["backbone"]["weights"] = dict.fromkeys(("relu", "leaky_relu"), str(weights))
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def run(command: list[str], folder: Path, given: str = "") -> str:
    """Output of a command that ends well."""
    done = subprocess.run(
        command,
        cwd=folder,
        text=True,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env={
            **os.environ,
            "LQF_MEMORY": MEMORY,
            "LQF_DEVICE": "cpu",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def commands(plan: str) -> list[str]:
    """What a dry run would run, in an order that works."""
    found = re.findall(r"^ *Shell command: (.+)$", plan, re.MULTILINE)
    return [one for one in found if one != "None"]


@pytest.mark.parametrize(
    ("runner", "network"),
    [
        ("one process", "demo_resnet"),
        pytest.param(
            "snakemake",
            "shufflenet_v2_x0_5",
            marks=pytest.mark.skipif(
                not os.environ.get("LQF_PAPER_JOBS"),
                reason="takes some minutes: set LQF_PAPER_JOBS=1",
            ),
        ),
    ],
)
def test_every_rule_of_the_plan_runs(runner: str, network: str, tmp_path: Path) -> None:
    overlay = write_overlay(tmp_path, network)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    snakemake += ["--directory", str(tmp_path), "--configfile", str(overlay)]
    if runner == "snakemake":
        run([*snakemake, "--cores", "2", "--keep-going"], tmp_path)
        assert "ERROR" not in run([*snakemake, "--report", str(tmp_path / "report.html")], tmp_path)
    else:
        plan = run([*snakemake, "--dry-run", "--printshellcmds"], tmp_path)
        run([sys.executable, "-c", DRIVER], tmp_path, "\n".join(commands(plan)))
    # What the jobs wrote is all that the rules promise.
    left = run([*snakemake, "--dry-run", "--rerun-triggers", "mtime"], tmp_path)
    assert not commands(left), left[-3000:]

    check(tmp_path)


def check(folder: Path) -> None:
    """Every method gave numbers, every path of large problems was taken, every claim has a verdict."""
    results = folder / "results/paper_jobs"
    scores = pd.read_csv(results / "informativeness_scores.csv")
    assert set(scores["scored_by"]) <= {"fsi_exact", "fsi_estimated"}
    claims = pd.read_csv(results / "claims.csv").set_index("id")
    assert len(claims) == len(config.load(ROOT / "config/config.yaml")["claims"])
    metrics = pd.concat(pd.read_csv(file) for file in (folder / "runs").rglob("metrics.csv"))
    assert set(metrics["status"]) <= {"ok", "diverged"}
    fitted = metrics[metrics["status"] == "ok"]
    assert set(fitted["method"]) == set(method.METHODS)
    assert set(fitted["experiment"]) == {
        "train",
        "elr",
        "kshot",
        "online",
        "regularized",
        "summary",
        "active",
    }
    assert fitted["test_err"].between(0, 100).all()
    for artefact in artefacts.select(
        list(yaml.safe_load(OVERLAY.read_text("utf-8"))["experiments"])
    ):
        for name in artefact.outputs():
            assert (folder / "figures/paper_jobs" / name).stat().st_size > 0, name
