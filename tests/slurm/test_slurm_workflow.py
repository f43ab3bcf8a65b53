"""The workflow through SLURM gives the bytes of a local run, also when its jobs are killed on the way."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import NODES, ask, wait_for

ROOT = Path(__file__).parents[2]
# A run that takes longer than so many seconds hangs.
SECONDS = 3600
OVERLAY = ROOT / "tests/slurm/small.yaml"
LOCAL = ["--profile", "none", "--cores", "2"]
CLUSTER = ["--profile", str(ROOT / "profiles/slurm"), "--jobs", "3"]
CLUSTER += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10"]


@contextlib.contextmanager
def snakemake(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the workflow in a folder; its output goes to the file `output` there."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config/demo.yaml"), str(OVERLAY)]
    command += ["--directory", str(folder), *arguments, "--", "results"]
    environment = {**os.environ, "LQF_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    with open(folder / "output", "w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for a run to succeed."""
    try:
        code = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    assert code == 0, (folder / "output").read_text()[-8000:]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a local run."""
    folder = tmp_path_factory.mktemp("local")
    with snakemake(folder, *LOCAL) as process:
        finish(process, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, local: Path) -> Path:
    """A folder for a run through SLURM that begins after the pre-training."""
    scale = next((local / "runs").iterdir()).name
    shutil.copytree(local / "data", tmp_path / "data")
    shutil.copytree(local / "runs" / scale / "backbone", tmp_path / "runs" / scale / "backbone")
    return tmp_path


def results(folder: Path) -> dict[str, bytes]:
    """Every aggregated file."""
    found = {path.name: path.read_bytes() for path in folder.glob("results/*/*.csv")}
    assert found
    return found


def metrics(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of every job without the time that they took."""
    found = {}
    for path in folder.glob("runs/*/*/*/*/*/metrics.csv"):
        with open(path, newline="") as handle:
            rows = [
                {k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(handle)
            ]
        found[str(path.relative_to(folder))] = rows
    assert found
    return found


def same(folder: Path, local: Path) -> None:
    """A run through SLURM ended with the results of a local run, and left nothing behind."""
    assert results(folder) == results(local)
    assert metrics(folder) == metrics(local)
    assert not list(folder.glob("runs/**/.checkpoint"))
    assert not ask("squeue", "--noheader")


def working_on(folder: Path, *arguments: str) -> int | None:
    """The process of a training job in a folder, if there is one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                ours = command[1:4] == ["-m", "lqf", "train"] and {*arguments} <= {*command}
                if ours and (entry / "cwd").resolve() == folder:
                    return int(entry.name)
    return None


def job_of(process: int) -> str:
    """The number of the SLURM job that a process belongs to."""
    variables = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return next(v.partition("=")[2] for v in variables if v.startswith("SLURM_JOB_ID="))


def kill(process: int) -> None:
    """End a process at once, as the kernel does when memory is short."""
    os.kill(process, signal.SIGKILL)


def stop(process: int) -> None:
    """Halt a process, and give its SLURM job the shortest limit there is, a minute, which alone ends it."""
    os.kill(process, signal.SIGSTOP)
    ask("scontrol", "update", f"jobid={job_of(process)}", "timelimit=1")


def cancel(process: int) -> None:
    """Cancel the SLURM job of a process, as a user or an administrator does."""
    ask("scancel", job_of(process))


def fail_node(process: int) -> None:
    """Lose the node that a process runs on."""
    node = ask("squeue", "--noheader", "--format=%N", f"--jobs={job_of(process)}")
    ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")


def preempt(process: int) -> None:
    """Let an urgent job take both nodes."""
    ask("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null",
        "--wrap=sleep 1")  # fmt: skip


def interrupt(
    process: subprocess.Popen[str], folder: Path, strikes: dict[int, Callable[[int], object]]
) -> dict[int, int]:
    """Strike each job that trains nlft with one of some seeds once it has finished a grid point.

    Returns:
        How many points each had finished, by seed.
    """
    kept = "runs/small/train/greek/nlft/{}/.checkpoint/*/*.point"
    waiting = dict(strikes)
    finished = {}

    def all_are_struck() -> bool:
        assert process.poll() is None, (folder / "output").read_text()[-8000:]
        for seed in list(waiting):
            job = working_on(folder, "--method", "nlft", "--seed", str(seed))
            if job is not None and any(folder.glob(kept.format(seed))):
                waiting.pop(seed)(job)
                time.sleep(0.5)  # the signal has arrived, and SLURM has not yet begun again
                finished[seed] = len(list(folder.glob(kept.format(seed))))
        return not waiting

    wait_for("the jobs have finished a grid point", all_are_struck, SECONDS)
    return finished


small = pytest.mark.skipif(
    os.environ.get("LQF_SLURM_TEST") != "small",
    reason="takes minutes, a time limit of SLURM's among them: set LQF_SLURM_TEST=small",
)


@small
@pytest.mark.usefixtures("slurm")
def test_results_are_those_of_a_local_run(folder: Path, local: Path) -> None:
    with snakemake(folder, *CLUSTER) as process:
        finish(process, folder)

    same(folder, local)


@small
@pytest.mark.usefixtures("slurm")
def test_killed_and_timed_out_jobs_continue_to_the_results_of_a_local_run(
    folder: Path, local: Path
) -> None:
    with snakemake(folder, *CLUSTER) as process:
        finished = interrupt(process, folder, {0: kill, 1: stop})
        finish(process, folder)

    same(folder, local)
    for seed, points in finished.items():
        log = (folder / f"logs/small/train/greek/nlft/{seed}.log").read_text()
        assert f"continues with {points} finished grid points" in log
    output = (folder / "output").read_text()
    assert (restarts := output.count("Trying to restart job")) == 2
    assert "SLURM status is: 'TIMEOUT'" in output
    assert "localrule aggregate_comparison:" in output
    assert output.count("has been submitted with SLURM jobid") == len(metrics(folder)) + restarts


@pytest.fixture
def whole_cluster() -> Iterator[None]:
    """Put back what a test took from the cluster."""
    yield
    ask("scontrol", "update", "partitionname=main", "state=up")
    for node in NODES:
        if (
            ask("sinfo", "--noheader", f"--nodes={node}", "--format=%T", "--partition=main")
            == "down"
        ):
            ask("scontrol", "update", f"nodename={node}", "state=resume")


@small
@pytest.mark.usefixtures("slurm", "whole_cluster")
@pytest.mark.parametrize("strike", [cancel, fail_node, preempt])
def test_jobs_that_the_cluster_ends_continue_to_the_results_of_a_local_run(
    folder: Path, local: Path, strike: Callable[[int], object]
) -> None:
    with snakemake(folder, *CLUSTER) as process:
        [points] = interrupt(process, folder, {1: strike}).values()
        finish(process, folder)

    same(folder, local)
    log = (folder / "logs/small/train/greek/nlft/1.log").read_text()
    assert f"continues with {points} finished grid points" in log


@small
@pytest.mark.usefixtures("slurm", "whole_cluster")
def test_jobs_that_the_queue_rejects_are_submitted_again(folder: Path, local: Path) -> None:
    ask("scontrol", "update", "partitionname=main", "state=drain")
    with snakemake(folder, *CLUSTER) as process:
        output = folder / "output"
        wait_for("submissions fail", lambda: output.read_text().count("sbatch failed") > 3)
        ask("scontrol", "update", "partitionname=main", "state=up")
        finish(process, folder)

    same(folder, local)
