"""Every rule of the paper's plan, run once on images and weights without meaning.

It takes some minutes, so it runs on request: ``LQF_PAPER_JOBS=1 pytest tests/workflow/test_paper_jobs.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lqf.data.folder import write_description, write_index

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "tests/workflow/paper_jobs.yaml"
COUNTS = {"train": 8, "val": 2, "test": 2}
#: GB, of which a quarter holds no Jacobian, and not the Gram matrix of informativeness.
MEMORY = "0.0008"

pytestmark = pytest.mark.skipif(
    not os.environ.get("LQF_PAPER_JOBS"), reason="runs on request: set LQF_PAPER_JOBS=1"
)


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


def test_every_rule_of_the_plan_runs(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    overlay = yaml.safe_load(OVERLAY.read_text("utf-8"))
    for seed, name in enumerate(overlay["datasets"]):
        make_data(tmp_path / "data/paper_jobs" / name, overlay["stored_size"], seed)
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "weights.safetensors")
    overlay["backbone"]["weights"] = dict.fromkeys(
        ("relu", "leaky_relu"), str(tmp_path / "weights.safetensors")
    )
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path), "--cores", "2", "--keep-going"]
    command += ["--configfile", str(tmp_path / "overlay.yaml")]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env={**os.environ, "LQF_MEMORY": MEMORY, "LQF_DEVICE": "cpu"},
    )

    assert done.returncode == 0, done.stdout[-6000:]
    results = tmp_path / "results/paper_jobs"
    scores = pd.read_csv(results / "informativeness_scores.csv")
    assert set(scores["scored_by"]) == {"fsi_compressed"}
    assert set(pd.read_csv(results / "removal.csv")["retrained_by"]) == {"pcg"}
    spectrum = pd.read_csv(tmp_path / "runs/paper_jobs/spectrum/mit67/0/spectrum.csv")
    assert set(spectrum["gram"]) == {"columns"}
    claims = pd.read_csv(results / "claims.csv").set_index("id")
    assert claims.loc["eq8_ranks_as_exact", "verdict"] == "undecided"
    metrics = [pd.read_csv(file) for file in (tmp_path / "runs").rglob("metrics.csv")]
    assert len(metrics) > 10
    assert pd.concat(metrics)["status"].isin(["ok", "diverged"]).all()
