"""Which devices a job sees inside what SLURM assigned to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster import ask

# Leases a device, says which, and keeps it until every process of the test has one.
LEASE = """
import os, sys, time
from pathlib import Path
from lqf.devices import lease, visible
started, count = Path(sys.argv[1]), int(sys.argv[2])
with lease(visible(os.environ)) as device:
    (started / str(os.getpid())).write_text(device.name)
    while len(list(started.iterdir())) < count:
        time.sleep(0.05)
"""

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file a process, which holds the name of its device."""
    monkeypatch.setenv("LQF_LEASES", str(tmp_path / "leases"))
    (tmp_path / "started").mkdir()
    return tmp_path / "started"


def devices(started: Path) -> list[str]:
    return sorted(path.read_text() for path in started.iterdir())


def test_a_job_keeps_the_device_that_it_was_assigned(started: Path) -> None:
    srun = ["srun", "--nodelist=n1", "--ntasks=1", "--gpus=1", sys.executable, "-c", LEASE]

    jobs = [subprocess.Popen([*srun, str(started), "2"]) for _ in range(2)]
    try:
        assert [job.wait(60) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.kill()
    assert devices(started) == ["0", "1"]


def test_jobs_inside_one_allocation_share_nothing(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASE", LEASE)
    # By number: `wait -n` answers 127 where both have ended before it is asked.
    job = f'"{sys.executable}" -c "$LEASE" "{started}" 2 &'
    script = f"{job} a=$!; {job} b=$!; wait $a && wait $b"

    ask("srun", "--ntasks=1", "--gpus=2", "--nodes=1", "bash", "-c", script)

    assert devices(started) == ["0", "1"]


def test_a_job_without_device_sees_none(started: Path) -> None:
    code = "import os; from lqf.devices import visible; print(visible(os.environ))"

    assert ask("srun", "--ntasks=1", sys.executable, "-c", code) == "()"
