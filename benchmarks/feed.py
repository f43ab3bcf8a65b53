"""Feeding batches from the packed array beside `ImageFolder` with torchvision's transforms.

Both give float32 batches of 32 × 3 × 224 × 224, normalised, of the same photographs: random crop and
flip for training, the middle for evaluation. The DataLoader has two worker processes, which are
started before the clock is; the feed runs in two threads of the process that trains.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.machine import (
    forget_peak,
    isolated,
    peak,
    ratio,
    resident,
    side_by_side,
    table,
    told,
)
from benchmarks.photographs import make_images
from lqf.backbones import IMAGENET
from lqf.config_sections import OwnKeys
from lqf.data.feed import Feed
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare_own

TITLE = "Feeding batches from the packed array"
ROUNDS = 5
SIZE, STORED, BATCH, WORKERS = 224, 256, 32, 2
TARGET = 10
SHAPES = [(500, 375, 90)] * 8 + [(300, 400, 85)] * 2
CASES = {"train": "random crop and flip", "evaluate": "the middle"}


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """A row for training and one for evaluation; the first has the memory, too."""
    images = 32 if small else 320
    torch.set_num_threads(2)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_images(work / "photographs", images, SHAPES)
        own = OwnKeys(folder=str(work / "photographs"))
        prepare_own("own", own, work / "packed", STORED, WORKERS)
        data = PackedDataset.load(work / "packed")
        for case in CASES:
            actions = {
                "feed": from_packed(data, case),
                "image_folder": from_files(work / "photographs" / "train", case),
            }
            seconds = side_by_side(actions, rounds)
            used = {name: cpu_seconds(action) for name, action in actions.items()}
            rows.append(
                {
                    "case": case,
                    "images": images,
                    "seconds": seconds,
                    "cpu_seconds": used,
                    "speed_over_image_folder": ratio(seconds, "image_folder", "feed"),
                    "to_reach": TARGET,
                }
            )
    few = 64 if small else 500
    rows[0]["peak_bytes_by_images"] = {
        str(number): isolated(peak_of_feed, number, STORED, SIZE) for number in (few, 4 * few)
    }
    return rows


def from_packed(data: PackedDataset, case: str) -> Callable[[], None]:
    """One epoch of the feed."""
    feed = data.feed(np.arange(len(data.labels)), size=SIZE, normalisation=IMAGENET)
    epochs = iter(range(1, 1_000_000))

    def run() -> None:
        _epoch(feed, next(epochs) if case == "train" else None)

    return run


def _epoch(feed: Feed, epoch: int | None) -> None:
    if epoch is None:
        for batch in feed.split(BATCH):
            _seen(batch)
        return
    seen = feed.augmented(0, epoch)
    for index in torch.randperm(len(feed)).split(BATCH):
        _seen(seen[index])


def _seen(batch: Tensor) -> None:
    if batch.shape[1:] != (3, SIZE, SIZE) or batch.dtype != torch.float32:
        raise ValueError(f"a batch of shape {tuple(batch.shape)} and type {batch.dtype} was fed.")


def from_files(folder: Path, case: str) -> Callable[[], None]:
    """One epoch of a DataLoader over the files."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    train = case == "train"
    cut = (
        [transforms.RandomCrop(SIZE), transforms.RandomHorizontalFlip()]
        if train
        else [transforms.CenterCrop(SIZE)]
    )
    last = [transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.deviation)]
    files = ImageFolder(str(folder), transforms.Compose([transforms.Resize(STORED), *cut, *last]))
    loader = DataLoader(
        files, BATCH, shuffle=train, num_workers=WORKERS, persistent_workers=True,
        multiprocessing_context="spawn",
    )  # fmt: skip

    def run() -> None:
        for batch, _ in loader:
            _seen(batch)

    return run


def peak_of_feed(number: int, stored: int, size: int) -> int:
    """Bytes by which an epoch of training batches raises the peak of this process.

    Args:
        number: images in the packed array, which is made here.
        stored: their side.
        size: the side of what is fed.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "images.npy"
        shape = (number, stored, stored, 3)
        written = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        for row in range(number):
            written[row] = row % 256
        written.flush()
        del written
        images = np.load(path, mmap_mode="r")
        feed = Feed(images, np.arange(number), size=size)
        feed[0]
        before = resident()
        forget_peak()
        seen = feed.augmented(0, 1)
        for index in torch.randperm(number).split(BATCH):
            seen[index]
        return peak() - before


def cpu_seconds(action: Callable[[], object]) -> float:
    """CPU time of an action in this process and its present children, whatever else is running."""
    before = _cpu_time()
    action()
    return _cpu_time() - before


def _cpu_time() -> float:
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def markdown(result: dict[str, Any]) -> str:
    """Images a second, and memory."""
    rows = result["rows"]
    speeds, work = [], []
    for row in rows:
        speed = [row["images"] / statistics.median(s) for s in row["seconds"].values()]
        shown = [f"{s:.0f}" for s in speed]
        ratio_ = f"{row['speed_over_image_folder']:.1f}"
        speeds.append([CASES[row["case"]], *shown, ratio_, f"≥ {row['to_reach']}"])
        used = [1e3 * s / row["images"] for s in row["cpu_seconds"].values()]
        shown = [f"{s:.2f}" for s in used]
        work.append([CASES[row["case"]], *shown, f"{used[1] / used[0]:.1f}"])
    memory = [
        [number, f"{int(number) * 3 * STORED**2 / 1e6:.0f}", f"{extra / 1e6:.0f}"]
        for number, extra in rows[0]["peak_bytes_by_images"].items()
    ]
    lines = [
        f"# {result['title']}",
        "",
        f"{told(result)} Medians of {result['rounds']} rounds, side by side."
        + (f" {result['note']}" if "note" in result else ""),
        "",
        f"Batches of {BATCH} × 3 × {SIZE} × {SIZE}, float32; {rows[0]['images']} JPEG photographs of 300 "
        + f"to 500 pixels, stored as {STORED} × {STORED}.",
        "",
        *table(
            ["images/s", "feed", f"ImageFolder, {WORKERS} workers", "ratio", "to reach"], speeds
        ),
        "",
        *table(["CPU ms an image", "feed", "ImageFolder and its workers", "ratio"], work),
        "",
        *table(
            ["images in the array", "MB of them", "MB that an epoch adds to the process"], memory
        ),
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Images a second of both, by case."""
    rows = result["rows"]
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    labels = {"feed": "packed array", "image_folder": f"ImageFolder, {WORKERS} workers"}
    for number, (name, label) in enumerate(labels.items()):
        places = [place + 0.4 * number for place in range(len(rows))]
        speed = [row["images"] / statistics.median(row["seconds"][name]) for row in rows]
        axes.barh(places, speed, 0.4, label=label)
    axes.set_yticks([place + 0.2 for place in range(len(rows))], [CASES[r["case"]] for r in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("images a second")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure
