"""A real SLURM on one host: two nodes on loopback with two invented GPUs each, no systemd, no accounting."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "srun",
    "squeue",
    "scancel",
    "sinfo",
    "scontrol",
)
PACKAGES = ("slurm-wlm", "munge")
# Jobs lose SLURM_CONF, so their srun looks here.
STANDARD = Path("/etc/slurm/slurm.conf")
NODES = ("n1", "n2")
GPUS = 2

MARK = "# Made by the tests of lqf, for as long as one of them runs.\n"

CONFIGURATION = """\
{mark}ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that SLURM itself begins again waits until its credentials have expired, by default two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# Without it, a job that names no memory takes that of a whole node.
DefMemPerCPU=2000
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
# A job that is out of time has this many seconds between SIGTERM and SIGKILL.
KillWait=2
SchedulerParameters=bf_interval=2
# Jobs of the partition `urgent` end others, which have the grace time of their partition to leave.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""


class SlurmMissing(Exception):
    """SLURM cannot run here; the message is the reason."""


def install() -> None:
    """Make sure that SLURM's programs are there; where CI is set, by installing them.

    Raises:
        SlurmMissing: if they are not.
    """
    if os.getuid() != 0:
        raise SlurmMissing("SLURM's daemons need root")
    if STANDARD.is_symlink() and not STANDARD.exists():
        raise SlurmMissing(f"{STANDARD} is a link to nowhere; remove it")
    if STANDARD.exists() and not STANDARD.read_text().startswith(MARK):
        raise SlurmMissing(f"{STANDARD} belongs to a SLURM of this machine")
    if not (lacking := [program for program in PROGRAMS if shutil.which(program) is None]):
        return
    if "CI" not in os.environ:
        raise SlurmMissing(f"no {', '.join(lacking)}; with CI=1 the tests install {PACKAGES}")
    if shutil.which("apt-get") is None:
        raise SlurmMissing(f"no {', '.join(lacking)}, and no apt-get to install them")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES)):
        done = subprocess.run(
            ["apt-get", "-qq", *arguments],
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise SlurmMissing(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-300:]}")


def _ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _configure(folder: Path) -> None:
    """Write slurm.conf and gres.conf, and make the invented GPUs."""
    host = socket.gethostname().split(".")[0]
    port, *node_ports = _ports(1 + len(NODES))
    lines = [CONFIGURATION.format(mark=MARK, host=host, port=port, folder=folder)]
    gres = ["AutoDetect=off"]
    for node, node_port in zip(NODES, node_ports, strict=True):
        lines.append(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} "
            f"CPUs=8 RealMemory=256000 Gres=gpu:{GPUS} State=UNKNOWN\n"
        )
        for number in range(GPUS):
            device = folder / f"{node}-gpu{number}"
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            gres.append(f"NodeName={node} Name=gpu File={device}")
    nodes = ",".join(NODES)
    lines.append(f"PartitionName=main Nodes={nodes} Default=YES State=UP GraceTime=2\n")
    lines.append(f"PartitionName=urgent Nodes={nodes} State=UP PriorityTier=2\n")
    (folder / "slurm.conf").write_text("".join(lines))
    (folder / "gres.conf").write_text("\n".join(gres) + "\n")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)


def ask(*command: str) -> str:
    """The output of one of SLURM's commands."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    ).stdout.strip()


def wait_for(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: if it does not within these seconds.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def _idle() -> bool:
    """Whether the controller answers and every node is idle."""
    states = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return states.stdout.split() == ["idle"] * len(NODES)


@contextlib.contextmanager
def _daemon(folder: Path, name: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon in the foreground as our child; it ends with the block, or when we are killed."""
    with open(folder / f"{name}.out", "wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # An interrupt is for us, who still need the daemons to end their jobs.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _linked(configuration: Path) -> Iterator[None]:
    """Let SLURM's commands find the configuration; a link that a killed test left is replaced.

    Raises:
        SlurmMissing: if another test uses the link.
    """
    with open(Path(tempfile.gettempdir()) / "lqf-test-slurm.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SlurmMissing("another test runs its SLURM on this machine") from None
        STANDARD.parent.mkdir(exist_ok=True)
        STANDARD.unlink(missing_ok=True)
        STANDARD.symlink_to(configuration)
        try:
            yield
        finally:
            STANDARD.unlink()


@contextlib.contextmanager
def _no_jobs_left() -> Iterator[None]:
    """Cancel what is still in the queue, and wait until the last job is gone."""
    try:
        yield
    finally:
        if jobs := ask("squeue", "--noheader", "--format=%i").split():
            ask("scancel", *jobs)
            wait_for("the queue is empty", lambda: not ask("squeue", "--noheader"))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Run a SLURM whose files are in a folder until the block ends.

    Raises:
        SlurmMissing: if it does not come up.
    """
    folder.chmod(0o755)
    _configure(folder)
    conf = str(folder / "slurm.conf")
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    munge += [f"--socket={folder}/munge.socket", "--foreground", "--force"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_linked(Path(conf)))
        stack.enter_context(_daemon(folder, "munged", "munged", *munge))
        stack.enter_context(_daemon(folder, "slurmctld", "slurmctld", "-D", "-f", conf))
        for node in NODES:
            stack.enter_context(_daemon(folder, node, "slurmd", "-D", "-N", node, "-f", conf))
        try:
            wait_for("both nodes are idle", _idle, 40)
        except TimeoutError as error:
            logs = "\n".join(path.read_text()[-1000:] for path in sorted(folder.glob("*.log")))
            raise SlurmMissing(f"SLURM does not come up ({error}):\n{logs}") from None
        stack.enter_context(_no_jobs_left())
        yield
