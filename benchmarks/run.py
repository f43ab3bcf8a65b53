"""Run a benchmark and write its JSON, Markdown and plot: ``python -m benchmarks.run pass``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

from benchmarks import (
    attribution,
    cost,
    epoch,
    estimates,
    feed,
    labels,
    mutations,
    one_pass,
    prepare,
)
from benchmarks.machine import machine
from benchmarks.realbench import Absent

#: A benchmark has TITLE, ``measure(rounds, small)`` -> rows, ``markdown(result)`` -> text, and
#: ``plot(result)`` -> a figure of matplotlib; ROUNDS is its usual number of repetitions.
BENCHMARKS: dict[str, ModuleType] = {
    "attribution": attribution,
    "cost": cost,
    "epoch": epoch,
    "estimates": estimates,
    "feed": feed,
    "labels": labels,
    "mutations": mutations,
    "pass": one_pass,
    "prepare": prepare,
}


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, help="repetitions, side by side")
    parser.add_argument("--small", action="store_true", help="a try-out in seconds")
    options = parser.parse_args()
    try:
        run(options.name, options.output, options.rounds, small=options.small)
    except Absent as reason:
        print(f"benchmark {options.name} skipped: {reason}")


def run(name: str, output: Path, rounds: int | None = None, *, small: bool = False) -> Path:
    """Run one benchmark and write what it found.

    Args:
        name: a name out of `BENCHMARKS`.
        output: folder of the results.
        rounds: repetitions; None for the benchmark's own number.
        small: a try-out in seconds.

    Returns:
        The JSON file.
    """
    benchmark = BENCHMARKS[name]
    rounds = rounds or benchmark.ROUNDS
    result = {
        "title": benchmark.TITLE,
        "machine": machine(),
        "rounds": rounds,
        "rows": benchmark.measure(rounds, small),
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    text = benchmark.markdown(result)
    path.with_suffix(".md").write_text(text)
    figure = benchmark.plot(result)
    figure.savefig(path.with_suffix(".png"), dpi=120, metadata={"Software": None})
    print(text)
    return path


if __name__ == "__main__":
    main()
