"""The workflow in miniature: folders of images and a file of weights, trained and aggregated in seconds a job."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = {
    "scale": "faults",
    "seeds": [0],
    "seeds_together": False,
    "image_size": 16,
    "stored_size": None,
    "train_per_class": None,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "datasets": ["one"],
    "own": {"one": {"folder": "images/one", "test": 0.3}},
    "backbone": {
        "network": "demo_resnet",
        "covariance_dimension": 4,
        "weights": dict.fromkeys(("relu", "leaky_relu"), "weights.safetensors"),
    },
    "training": {
        "nonlinear": {
            "rates": [0.01, 0.001], "weight_decays": [1e-4], "batch_norm": ["train"],
            "augment": False, "epochs": 3, "batch": 8,
        },
        "sgd": {
            "rates": [0.01], "weight_decays": [1e-4], "augment": False, "epochs": 2, "batch": 8,
        },
    },
    "experiments": {
        "comparison": {"datasets": ["one"], "methods": ["nlft", "fc"]},
        **dict.fromkeys(
            (
                *("ablation", "fine_grained", "elr", "spectrum", "kshot", "online"),
                *("informativeness", "regularized", "leave_one_out", "summary", "active"),
            )
        ),
    },
}  # fmt: skip


def make(folder: Path) -> Path:
    """Write images, weights and configuration.

    Args:
        folder: Where the workflow is to run.

    Returns:
        The folder.
    """
    import torch
    from safetensors.torch import save_file

    from lqf.networks import build_features

    generator = np.random.default_rng(0)
    for label in range(3):
        place = folder / "images" / "one" / "train" / f"class{label}"
        place.mkdir(parents=True)
        for number in range(10):
            image = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            image[..., label] |= 128
            Image.fromarray(image).save(place / f"{number}.png")
    torch.manual_seed(0)
    features = build_features("demo_resnet", "relu", 0.0).features
    save_file(features.state_dict(), folder / "weights.safetensors")
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def start(folder: Path, *arguments: str, target: str = "results") -> subprocess.Popen[str]:
    """Start the workflow in a process group of its own; its output goes to the file `output`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += [
        "--cores",
        "2",
        "--configfile",
        "mine.yaml",
        "--quiet",
        "rules",
        *arguments,
        "--",
        target,
    ]
    environment = {**os.environ, "LQF_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    with open(folder / "output", "a") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the workflow and to all of its jobs, and wait until none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        # At SIGTERM jobs keep their state first; beside other work that takes minutes.
        process.wait(900)
        # Some seconds are enough; where nobody reaps orphans, their group never ends.
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    process.wait(900)


def finish(folder: Path, *arguments: str, seconds: float = 3600) -> int:
    """Run the workflow to its end; returns the exit code."""
    # A workflow that was killed has left Snakemake's lock behind; this is what --unlock does.
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)
    process = start(folder, *arguments)
    try:
        return process.wait(seconds)
    finally:
        if process.poll() is None:
            end(process, signal.SIGKILL)


def results(folder: Path) -> dict[str, bytes]:
    """Every aggregated file."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("results/faults/*.csv"))}
