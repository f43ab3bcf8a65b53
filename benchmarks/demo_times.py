"""What each part of a run of the workflow cost, read from the logs of its jobs.

    python benchmarks/demo_times.py --logs logs/demo --output benchmarks/results/demo_times.csv

A job's log ends with the seconds it took; every job uses one core. Jobs that several artefacts share
are counted once, where they are first needed.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

PARTS = {
    "ablation": r"train/[^/]+/lqf_no_",
    "fine_grained": r"train/[^/]+/(mpn_cov|b_lqf)",
    "comparison": r"train/",
}


def part_of(path: str) -> str:
    """The part of the run that a log belongs to."""
    for name, pattern in PARTS.items():
        if re.match(pattern, path):
            return name
    return path.partition("/")[0] if "/" in path else "drawing"


def main() -> None:
    """Write jobs and core-seconds of each part, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    for log in sorted(options.logs.rglob("*.log")):
        found = re.findall(
            r"^finished in ([\d.]+) s$", log.read_text(errors="replace"), re.MULTILINE
        )
        if found:
            seconds[part_of(log.relative_to(options.logs).as_posix())].append(float(found[-1]))
    rows = [(name, len(times), round(sum(times))) for name, times in sorted(seconds.items())]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with open(options.output, "w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("part", "jobs", "core_seconds"))
        writer.writerows(rows)
    for name, jobs, total in rows:
        print(f"{name:16s} {jobs:4d} jobs {total:6d} core-seconds")


if __name__ == "__main__":
    main()
