"""Preparing a data set beside Pillow alone, on the same files and the same cores.

Pillow alone opens, decodes, converts, resizes and cuts, and forgets the result. `prepare` also hashes
every file, writes the array, the index, the description and the contact sheet. Both use the same
number of processes and take turns.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.machine import ratio, side_by_side, table, told
from benchmarks.photographs import make_images

TITLE = "Preparing photographs beside Pillow alone"
ROUNDS = 3
SIZE, WORKERS = 256, 2
TARGET = 0.8

MEMORY = """
import resource, sys
from pathlib import Path
from lqf.config_sections import OwnKeys
from lqf.data.prepare import prepare_own
if __name__ == "__main__":
    folder, output, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    prepare_own("memory", OwnKeys(folder=str(folder)), output, 256, workers)
    print(*(resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def pillow_alone(path: str) -> int:
    """Decode and resize one file as anyone would."""
    image = Image.open(path).convert("RGB")
    scale = SIZE / min(image.size)
    width, height = (max(SIZE, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    x, y = (width - SIZE) // 2, (height - SIZE) // 2
    return np.asarray(image.crop((x, y, x + SIZE, y + SIZE))).shape[0]


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row: times beside Pillow, and peak memory at N and 4 N."""
    images = 24 if small else 1200
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_images(work / "many", images)
        make_images(work / "few", images // 4)
        paths = sorted(str(path) for path in (work / "many").rglob("*.jpg"))
        actions = {
            "pillow": lambda: _pillow(paths),
            "prepare": _prepare(work / "many", work / "out"),
        }
        seconds = side_by_side(actions, rounds)
        memory = {
            str(number): _peak_memory(work / folder, work / f"out_{folder}")
            for folder, number in (("few", images // 4), ("many", images))
        }
    return [
        {
            "images": images,
            "workers": WORKERS,
            "seconds": seconds,
            "speed_over_pillow": ratio(seconds, "pillow", "prepare"),
            "to_reach": TARGET,
            "peak_bytes_by_images": memory,
        }
    ]


def _pillow(paths: list[str]) -> None:
    """Pillow alone, the start of its processes included."""
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        for _ in pool.imap_unordered(pillow_alone, paths, chunksize=32):
            pass


def _prepare(folder: Path, output: Path) -> Callable[[], None]:
    from lqf.config_sections import OwnKeys
    from lqf.data.prepare import prepare_own

    own = OwnKeys(folder=str(folder))
    return lambda: prepare_own("own", own, output, SIZE, WORKERS)


def _peak_memory(folder: Path, output: Path) -> dict[str, int]:
    """Peak resident memory in bytes of a fresh process and of its largest worker."""
    script = output.parent / "memory.py"
    script.write_text(MEMORY)
    command = [sys.executable, str(script), str(folder), str(output), str(WORKERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own, children = map(int, done.stdout.split())
    return {"process": own, "largest_worker": children}


def markdown(result: dict[str, Any]) -> str:
    """Speed and memory."""
    row = result["rows"][0]
    speed = {k: row["images"] / statistics.median(v) for k, v in row["seconds"].items()}
    speeds = [
        [title, f"{speed[k]:.0f}"] for k, title in (("pillow", "Pillow alone"), ("prepare",) * 2)
    ]
    memory = [
        [number, *(f"{peak[k] / 1e6:.0f}" for k in ("process", "largest_worker"))]
        for number, peak in row["peak_bytes_by_images"].items()
    ]
    lines = [
        f"# {result['title']}",
        "",
        f"{told(result)} {row['images']} photographs, {row['workers']} processes, {result['rounds']} rounds side by side.",
        "",
        *table(["", "images/s"], speeds),
        "",
        f"Speed of prepare over that of Pillow alone: {row['speed_over_pillow']:.2f} (to reach: ≥ {row['to_reach']}).",
        "",
        *table(["images", "peak MB of the process", "of its largest worker"], memory),
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Images a second."""
    row = result["rows"][0]
    figure = Figure(figsize=(5, 2), layout="constrained")
    axes = figure.subplots()
    names = list(row["seconds"])
    axes.barh(names, [row["images"] / statistics.median(row["seconds"][n]) for n in names])
    axes.set_xlabel("images a second")
    return figure
