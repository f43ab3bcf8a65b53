"""Leases of devices, between real processes on invented devices."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lqf import devices
from lqf.devices import Device, LeaseError, lease, visible

UUIDS = ("GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3")
HOLDER = """
import sys, time
from pathlib import Path
from lqf.devices import Device, lease
with lease([Device("0", "one")], Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the only device."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("environment", "uuids", "expected"),
    [
        ({}, UUIDS, ["0", "1", "2"]),
        ({}, (), ["0", "1"]),
        # A device keeps the name that it was given.
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb,0"}, UUIDS, ["GPU-bb", "0"]),
        # What a scheduler assigned is kept.
        ({"SLURM_JOB_GPUS": "1,2"}, UUIDS, ["1", "2"]),
        ({"SLURM_JOB_GPUS": "1,2", "SLURM_STEP_GPUS": "2"}, UUIDS, ["2"]),
        ({"SLURM_JOB_GPUS": "1,2", "CUDA_VISIBLE_DEVICES": "0"}, UUIDS, ["0"]),
        # A device cgroup numbers the assigned devices anew.
        ({"SLURM_JOB_GPUS": "6,7"}, ("GPU-g", "GPU-h"), ["0", "1"]),
    ],
)
def test_names_of_visible_devices(
    environment: dict[str, str], uuids: tuple[str, ...], expected: list[str]
) -> None:
    assert [device.name for device in visible(environment, uuids, count=2)] == expected
    assert [one.identity for one in visible({}, uuids)] == list(uuids)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2,0", ["GPU-cccc-3", "GPU-aaaa-1"]),
        (" 1 , 2 ", ["GPU-bbbb-2", "GPU-cccc-3"]),
        ("GPU-bbbb-2", ["GPU-bbbb-2"]),
        ("GPU-bb,0", ["GPU-bbbb-2", "GPU-aaaa-1"]),
        ("MIG-1234-5", ["MIG-1234-5"]),
        ("MIG-GPU-aaaa-1/2/0", ["MIG-GPU-aaaa-1/2/0"]),
        ("0,GPU-aaaa-1,0", ["GPU-aaaa-1"]),
        ("0,-1,1", ["GPU-aaaa-1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_respected(value: str, expected: list[str]) -> None:
    found = visible({"CUDA_VISIBLE_DEVICES": value}, UUIDS)
    assert [device.identity for device in found] == expected


def test_numbers_without_uuid_belong_to_their_allocation() -> None:
    one = visible({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "11"})
    other = visible({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "12"})

    assert one[0].name == other[0].name
    assert one[0].identity != other[0].identity


def test_the_second_lease_gets_the_second_device(tmp_path: Path) -> None:
    both = visible({}, ("GPU-a", "GPU-b"))

    with lease(both, tmp_path) as first, lease(both, tmp_path) as second:
        assert (first, second) == both
    with pytest.raises(ZeroDivisionError), lease(both, tmp_path):
        _ = 1 / 0
    with lease(both, tmp_path) as again:
        assert again == both[0]


def test_nothing_to_lease_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    with pytest.raises(LeaseError, match="CUDA_VISIBLE_DEVICES is '-1'"), lease([], tmp_path):
        pass


def test_killing_the_holder_frees_the_device(
    holder: subprocess.Popen[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    handle = devices._lock(tmp_path / "one.lock")
    assert handle is None

    # The kill comes while the lease below is waiting.
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    with lease([Device("0", "one")], tmp_path, poll=0.05) as device:
        assert device.name == "0"
    killer.join()

    assert holder.wait() == -signal.SIGKILL
    assert f"all 1 devices are taken; waiting for one: process {holder.pid}" in caplog.text
    assert caplog.text.count("waiting") == 1


def _work(folder: Path, turns: int) -> None:
    """Lease and work on a device; ends with an error if another process works on it too."""
    pool = visible({}, ("GPU-a", "GPU-b"))
    for _ in range(turns):
        with lease(pool, folder, poll=0.001) as device:
            busy = folder / f"{device.identity}.busy"
            busy.touch(exist_ok=False)
            time.sleep(0.005)
            busy.unlink()


def test_many_processes_never_share_a_device(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(tmp_path, 20)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0] * 6


def test_workflows_with_other_temporary_folders_share_their_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LQF_LEASES", raising=False)
    before = devices.lock_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert devices.lock_folder() == before
    assert before.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_lock_folder_of_somebody_else_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LQF_LEASES", raising=False)
    monkeypatch.setattr(devices, "SHARED", tmp_path)
    planted = tmp_path / f"lqf-devices-{os.getuid()}"
    if kind == "file":
        planted.touch()
    else:
        planted.symlink_to(tmp_path, target_is_directory=True)

    with pytest.raises(LeaseError, match="is not a folder of this user; remove it"):
        devices.lock_folder()


def test_hold_lasts_and_hides_the_other_devices(tmp_path: Path) -> None:
    code = "from lqf import devices; import os; one = devices.hold(2); "
    code += "print(one.name, devices.hold(2) is one, os.environ['CUDA_VISIBLE_DEVICES'])"
    environment = {**os.environ, "LQF_LEASES": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1,0"}
    environment["PATH"] = str(tmp_path)  # no nvidia-smi: what this machine has does not matter
    command = [sys.executable, "-c", code]

    with lease(visible({"CUDA_VISIBLE_DEVICES": "1"}), tmp_path):
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)

    assert done.stdout.split() == ["0", "True", "0"]


def test_a_lock_folder_without_locks_is_refused(tmp_path: Path, no_locks: None) -> None:
    with (
        pytest.raises(LeaseError, match=r"knows no locks .* set LQF_LEASES"),
        lease([Device("0", "one")], tmp_path),
    ):
        pass


def test_cores_are_counted_where_the_system_has_no_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 1 <= devices.usable_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert devices.usable_cores() == os.cpu_count()
