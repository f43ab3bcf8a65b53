"""Kill a miniature run at random moments, resume it, compare the results byte for byte.

    python tests/faults/kills.py --tries 25 --output docs/faults.md

Takes about half a minute a try on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import miniature

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


@dataclass
class Count:
    """What became of the tries with one signal."""

    tries: int = 0
    interrupted: int = 0
    survived: int = 0


def survives(world: Path, folder: Path, number: signal.Signals, after: float) -> tuple[bool, bool]:
    """Run a copy of a world, send a signal to all of it after some seconds, and resume it.

    Args:
        world: Input of the run, and the results of a whole one under `whole`.
        folder: Where to run; it is made and removed.
        number: The signal.
        after: Seconds until it is sent.

    Returns:
        Whether the run was still under way then, and whether the results are those of a whole run.
    """
    shutil.copytree(world, folder, ignore=shutil.ignore_patterns("whole"), symlinks=True)
    process = miniature.start(folder)
    time.sleep(after)
    running = process.poll() is None
    miniature.end(process, number)
    code = miniature.finish(folder)
    same = miniature.results(folder) == miniature.results(world / "whole")
    if code == 0 and same:
        shutil.rmtree(folder)
    return running, code == 0 and same


def table(counts: dict[str, Count]) -> str:
    """What happened, as Markdown."""
    lines = [
        "# Faults",
        "",
        "A miniature run (a method on a folder of images) is ended at random moments with all of its jobs, and",
        "started again; survived is a run that ends with the aggregated files of an undisturbed one, byte for byte.",
        "Made by `python tests/faults/kills.py`.",
        "",
        "| fault | tries | under way | survived | lost |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one.tries} | {one.interrupted} | {one.survived} | {one.tries - one.survived} |"
        for name, one in counts.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the tries and write the table.

    Returns:
        The number of runs that were lost.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=25, help="with each of the two signals")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    counts = {name: Count() for name in SIGNALS}
    with tempfile.TemporaryDirectory() as place:
        world = miniature.make(Path(place) / "world")
        shutil.copytree(world, Path(place) / "whole")
        started = time.monotonic()
        if miniature.finish(Path(place) / "whole"):
            sys.exit((Path(place) / "whole" / "output").read_text())
        seconds = time.monotonic() - started
        (Path(place) / "whole").rename(world / "whole")
        for number in range(options.tries):
            for name, one in SIGNALS.items():
                after = moments.uniform(0.05, 0.95) * seconds
                running, same = survives(world, Path(place) / f"{name}-{number}", one, after)
                count = counts[name]
                count.tries, count.survived = count.tries + 1, count.survived + same
                count.interrupted += running
                print(f"{name} after {after:.1f} s: {'survived' if same else 'LOST'}", flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(table(counts), "utf-8")
    print(table(counts))
    return sum(one.tries - one.survived for one in counts.values())


if __name__ == "__main__":
    sys.exit(main())
