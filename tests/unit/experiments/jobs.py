"""Whole jobs, as small as they go, and processes that run them and are killed on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from lqf import checkpoint, cli, snapshot
from lqf.data.folder import write_description, write_index
from lqf.experiments import problem
from lqf.networks import build

CLASSES = ("red", "green", "blue")
SIDE = 8

SETTINGS: dict[str, Any] = {
    "scale": "tiny",
    "image_size": SIDE,
    "target_scale": 15.0,
    "train_per_class": None,
    "backbone": {
        "network": "demo_resnet",
        "slope": 0.1,
        "fold_batch_norm": True,
        "covariance_dimension": 4,
        "pretrain": None,
    },
}


def make_data(folder: Path, per_class: int = 6) -> None:
    """A prepared data set: images whose mean colour tells the class, with noise."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = []
    images = []
    for split, count in (("train", per_class), ("val", 3), ("test", 4)):
        for number in range(count):
            for label, name in enumerate(CLASSES):
                image = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                image[..., label] = np.maximum(image[..., label], 90)
                images.append(image)
                rows.append((name, label, split, f"{split}{number}", f"{len(rows):064d}"))
    np.save(folder / "images.npy", np.stack(images))
    write_index(folder, rows)
    write_description(folder, {"name": "colours", "classes": list(CLASSES)})


def make_weights(path: Path) -> None:
    """The features of a network whose batch norm has seen some images."""
    torch.manual_seed(0)
    network = build("demo_resnet", 3, activation="leaky_relu", slope=0.1, seed=0).train()
    network(torch.randn(32, 3, SIDE, SIDE))
    save_file({name: t.contiguous() for name, t in network.features.state_dict().items()}, path)


def arguments(command: str, world: Path, output: Path, settings: dict[str, Any]) -> list[str]:
    """The command line of a job."""
    method = settings.pop("name", None)
    line = [command, "--dataset", "colours", "--seed", "0", "--data", str(world / "data")]
    line += ["--weights", str(world / "weights.safetensors")]
    if method:
        line += ["--method", method]
    if command == "informativeness":
        line += ["--output-scores", str(output / "scores.csv")]
        line += ["--output-removal", str(output / "removal.csv")]
    else:
        line += ["--output", str(output / "metrics.csv")]
    return [*line, "--settings", json.dumps({**SETTINGS, **settings})]


def job(line: list[str], seconds: float = 3600.0, memory: str = "") -> int:
    """Run a job in this process, with a state every so many seconds and so many GB of memory."""
    os.environ["LQF_CHECKPOINT_SECONDS"], os.environ["LQF_MEMORY"] = str(seconds), memory
    os.environ["LQF_DEVICE"] = "cpu"
    # As at paper scale: no Jacobian is held, no Gram matrix is decomposed.
    problem.DENSE_BYTES = 0
    return cli.main(line)


def _killed(line: list[str], number: int, after: int, memory: str) -> None:
    """Run a job that sends itself a signal at its n-th safe point, before a state is kept there.

    SIGKILL finds the states of the points before. SIGTERM, with states hours apart, finds none, so
    that what the job goes on from is what it kept when it was asked to end.
    """
    seen = 0
    kind = snapshot.State
    offer, keep = kind.offer, kind.keep

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            os.kill(os.getpid(), number)

    def counted_offer(self: Any, make: Any) -> None:
        count()
        offer(self, make)

    def counted_keep(self: Any, state: Any) -> None:
        count()
        keep(self, state)

    if number == signal.SIGKILL:
        kind.keep = counted_keep  # type: ignore[method-assign]
        raise SystemExit(job(line, 0.0, memory))
    kind.offer = counted_offer  # type: ignore[method-assign]
    raise SystemExit(job(line, 3600.0, memory))


def kill(line: list[str], number: int, after: int, memory: str = "") -> int:
    """Run a job in a process of its own that is ended by a signal; returns its exit code."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "lqf.experiments.online", "lqf.experiments.train"])
    process = context.Process(target=_killed, args=(line, number, after, memory))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def kept_files(output: Path) -> list[str]:
    """What a killed job has left to go on from."""
    return sorted(file.name for file in output.glob(f"{checkpoint.FOLDER}/*/*.safetensors"))


def numbers(file: Path) -> list[dict[str, str]]:
    """A CSV file without the one column that two runs do not share."""
    with open(file, newline="") as handle:
        return [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(handle)]
