"""No job outlives the workflow that started it, and no worker its job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lqf import orphans

JOB = """
import sys, time
from lqf import cli
cli._parser = lambda: Parser()
class Parser:
    def parse_args(self, arguments):
        import argparse
        def run(options):
            print("runs", flush=True)
            time.sleep(300)
        return argparse.Namespace(command="job", log=None, run=run)
cli.main([])
"""


def wait_until(done: Callable[[], bool], seconds: float = 120) -> None:
    """Wait, for as long as a busy machine may take."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


def test_a_job_ends_with_the_workflow_that_started_it() -> None:
    with subprocess.Popen(["sleep", "600"]) as workflow:
        environment = {**os.environ, orphans.PARENT: str(workflow.pid)}
        with subprocess.Popen(
            [sys.executable, "-c", JOB], env=environment, stdout=subprocess.PIPE, text=True
        ) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "runs\n"
            assert job.poll() is None

            workflow.kill()
            workflow.wait()

            assert job.wait(60) == -signal.SIGTERM


def test_workers_end_with_the_job_that_started_them(tmp_path: Path) -> None:
    # An image that never comes keeps a worker waiting for it.
    os.mkfifo(tmp_path / "never.png")
    program = "import sys; from pathlib import Path; from lqf.data.pack import pack; "
    program += "pack(Path(sys.argv[1]), ['never.png'] * 300, Path(sys.argv[1], 'images.npy'), 8, workers=2)"
    job = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )

    def workers() -> list[str]:
        """Those of its session that import what a worker does."""
        command = ["ps", "-ww", "-o", "stat=,args=", "-s", str(job.pid)]
        shown = subprocess.run(command, text=True, capture_output=True, check=False).stdout
        return [one for one in shown.splitlines() if "spawn_main" in one and one[0] != "Z"]

    try:
        wait_until(lambda: len(workers()) == 2)
        job.kill()
        job.wait()

        wait_until(lambda: not workers())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
