"""Preparing a data set beside Pillow alone, on the same files and the same cores.

    python benchmarks/prepare.py --output benchmarks/prepare.json

Pillow alone opens, decodes, converts, resizes and cuts, and forgets the result. `prepare` also hashes
every file, writes the array, the index, the description and the contact sheet. Both use the same
number of processes and take turns; the median of the repetitions counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

SIZE = 256
# Width, height and quality as in the paper's data sets, and how many of ten images are so.
SHAPES = [(500, 375, 90)] * 6 + [(1024, 695, 90)] * 3 + [(300, 400, 85)]

MEMORY = """
import resource, sys
from pathlib import Path
from lqf.data.own import OwnData, prepare_own
if __name__ == "__main__":
    folder, output, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    prepare_own("memory", OwnData(folder=folder), output, 256, workers=workers, progress=False)
    print(*(resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def make_images(folder: Path, number: int) -> None:
    """Write photographs of nothing: smooth colours with some grain, so that they compress like photos."""
    rng = np.random.default_rng(0)
    for index in range(number):
        width, height, quality = SHAPES[index % len(SHAPES)]
        coarse = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int16)
        grain = rng.integers(-12, 12, (height, width, 1), dtype=np.int16)
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        place = folder / "train" / f"class_{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:05d}.jpg", quality=quality)


def pillow_alone(path: str) -> int:
    """Decode and resize one file as anyone would."""
    image = Image.open(path).convert("RGB")
    scale = SIZE / min(image.size)
    width, height = (max(SIZE, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    x, y = (width - SIZE) // 2, (height - SIZE) // 2
    return np.asarray(image.crop((x, y, x + SIZE, y + SIZE))).shape[0]


def time_pillow(paths: list[str], workers: int) -> float:
    """Seconds of Pillow alone, the start of its processes included."""
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(pillow_alone, paths, chunksize=32):
            pass
    return time.perf_counter() - started


def time_prepare(folder: Path, output: Path, workers: int) -> float:
    """Seconds of everything that prepare does."""
    from lqf.data.own import OwnData, prepare_own

    started = time.perf_counter()
    prepare_own("own", OwnData(folder=folder), output, SIZE, workers=workers, progress=False)
    return time.perf_counter() - started


def peak_memory(folder: Path, output: Path, workers: int) -> dict[str, float]:
    """Peak resident memory in MB of a fresh process and of its largest worker."""
    command = [sys.executable, "-c", MEMORY, str(folder), str(output), str(workers)]
    if workers > 1:
        script = output.parent / "memory.py"
        script.write_text(MEMORY)
        command[1:3] = [str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own, children = map(float, done.stdout.split())
    return {"process": round(own, 1), "largest_worker": round(children, 1)}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_images(work / "many", options.images)
        make_images(work / "few", options.images // 4)
        paths = sorted(str(path) for path in (work / "many").rglob("*.jpg"))
        alone, whole = [], []
        for _ in range(options.repeat):
            alone.append(time_pillow(paths, options.workers))
            whole.append(time_prepare(work / "many", work / "out", options.workers))
        memory = {
            str(number): peak_memory(work / folder, work / f"out_{folder}", options.workers)
            for folder, number in (("few", options.images // 4), ("many", options.images))
        }
    ratio = statistics.median(a / b for a, b in zip(alone, whole, strict=True))
    result = {
        "images": options.images,
        "workers": options.workers,
        "pillow_images_per_s": round(options.images / statistics.median(alone), 1),
        "prepare_images_per_s": round(options.images / statistics.median(whole), 1),
        "prepare_over_pillow": round(ratio, 2),
        "must_be_at_least": 0.8,
        "peak_memory_mb_by_images": memory,
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores, Pillow {PIL.__version__}",
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
