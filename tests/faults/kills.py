"""Kill a miniature run at random moments, resume it, compare the results byte for byte; then the table of faults.

    python tests/faults/kills.py --tries 25 --output docs/faults.md

A try costs about a minute of processor time: an undisturbed run takes 46 s of it.  Each is noted in tries.jsonl as it ends, and a later call goes on
from there: delete that file to begin anew.  The other rows of the table are the tests beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import miniature

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
NOTES = HERE / "tries.jsonl"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"


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


def kill(tries: int, minutes: float, seed: int) -> None:
    """Do the tries that are not noted yet, until all are done or the time is over."""
    started = time.monotonic()
    moments = random.Random(seed)
    wanted = [(n, name, moments.uniform(0.05, 0.95)) for n in range(tries) for name in SIGNALS]
    done = {(one.get("number"), one.get("fault")) for one in noted()}
    left = [one for one in wanted if one[:2] not in done]
    if not left:
        return
    with tempfile.TemporaryDirectory() as place:
        world = miniature.make(Path(place) / "world")
        shutil.copytree(world, Path(place) / "whole")
        begun = time.monotonic()
        if miniature.finish(Path(place) / "whole"):
            sys.exit((Path(place) / "whole" / "output").read_text())
        seconds = time.monotonic() - begun
        (Path(place) / "whole").rename(world / "whole")
        for number, name, share in left:
            if time.monotonic() - started > 60 * minutes:
                return
            after = share * seconds
            running, same = survives(world, Path(place) / f"{name}-{number}", SIGNALS[name], after)
            seen = {"after": round(after, 1), "under_way": running, "survived": same}
            note(fault=name, number=number, **seen)
            print(f"{name} after {after:.1f} s: {'survived' if same else 'LOST'}", flush=True)


def note(**what: Any) -> None:
    """Add a line to the notes."""
    with NOTES.open("a", encoding="utf-8") as notes:
        notes.write(json.dumps(what) + "\n")


def noted() -> list[dict[str, Any]]:
    """The tries that were made; of a test the last one."""
    if not NOTES.is_file():
        return []
    notes = [json.loads(line) for line in NOTES.read_text("utf-8").splitlines()]
    keys = ("fault", "number", "check", "case")
    return list({tuple(one.get(key) for key in keys): one for one in notes}.values())


class Outcomes:
    """A plugin of pytest that notes what became of each test."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that ran, or one that was skipped or broke before it."""
        if report.when != "call" and report.passed:
            return
        name, _, case = report.nodeid.rpartition("::test_")[2].partition("[")
        tries = 0 if report.skipped else dict(report.user_properties).get("tries", 1)
        why = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        note(check=name.replace("_", " "), case=case, tries=tries, lost=report.failed, why=why)


def table(notes: Sequence[Mapping[str, Any]]) -> str:
    """What happened, as Markdown."""
    lines = ["| fault | tries | under way | survived | lost |", "|---|---|---|---|---|"]
    for name in SIGNALS:
        own = [one for one in notes if one.get("fault") == name]
        kept = sum(one["survived"] for one in own)
        counts = (len(own), sum(one["under_way"] for one in own), kept, len(own) - kept)
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    lines += ["", "| check | tries | survived | lost |", "|---|---|---|---|"]
    checks = [one for one in notes if "check" in one]
    for name in dict.fromkeys(one["check"] for one in checks):
        own = [one for one in checks if one["check"] == name]
        tries, lost = (sum(one[key] for one in own) for key in ("tries", "lost"))
        why = "; ".join(sorted({f" (not run: {one['why']})" for one in own if one["why"]}))
        lines.append(f"| {name}{why} | {tries} | {tries - lost} | {lost} |")
    return "\n".join(lines)


def main() -> int:
    """Run the tries and the tests, and write the table.

    Returns:
        The number of tries that were lost.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=25, help="with each of the two signals")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no try after so long")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--checks", nargs="*", default=[str(HERE)], help="tests to run, by default all"
    )
    parser.add_argument("--output", type=Path, help="page whose table to replace")
    options = parser.parse_args()
    kill(options.tries, options.minutes, options.seed)
    if options.checks:
        os.environ["LQF_FAULTS"] = "whole"
        pytest.main(["-p", "no:cacheprovider", *options.checks], [Outcomes()])
    notes = noted()
    text = table(notes)
    if options.output:
        before, _, rest = options.output.read_text("utf-8").partition(BEGIN)
        page = f"{before}{BEGIN}{text}\n{END}{rest.partition(END)[2]}"
        options.output.write_text(page, "utf-8")
    print(text)
    return sum(not one.get("survived", True) or one.get("lost", False) for one in notes)


if __name__ == "__main__":
    sys.exit(main())
