"""Snakemake counts GPUs, and each job leases one: four invented devices, four jobs at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Leases a device, and works on it until four jobs do. The first attempt of job 0 is killed while it holds one.
JOB = """
import os, signal, sys, time
from pathlib import Path
from lqf.devices import lease, visible

number, attempt, output = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
with lease(visible(os.environ), poll=0.05) as device:
    if number == 0 and attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    busy = Path(f"busy-{device.name}")
    busy.touch(exist_ok=False)
    end = time.monotonic() + 60
    while len(list(Path().glob("busy-*"))) < 4 and not Path("four").exists():
        if time.monotonic() > end:
            sys.exit("four jobs never ran at a time")
        time.sleep(0.02)
    Path("four").touch()
    time.sleep(0.3)
    busy.unlink()
    output.write_text(device.name)
"""

SNAKEFILE = """
rule all:
    input:
        expand("device-{number}", number=range(6)),

rule job:
    output:
        "device-{number}",
    resources:
        gpu=1,
        attempt=lambda wildcards, attempt: attempt,
    retries: 1
    shell:
        "{sys.executable} job.py {wildcards.number} {resources.attempt} {output}"
"""


def test_four_jobs_at_a_time_have_four_devices(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "Snakefile").write_text(f"import sys\n{SNAKEFILE}")
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        "LQF_LEASES": str(tmp_path / "leases"),
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "--resources", "gpu=4"]

    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-4000:]
    assert "Trying to restart job" in done.stdout
    devices = [(tmp_path / f"device-{number}").read_text() for number in range(6)]
    assert set(devices) == {"0", "1", "2", "3"}
