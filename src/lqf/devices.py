"""Lease one GPU per job.

Snakemake counts GPUs (``--resources gpu=4``) but tells no job which one is its own.  So every job
takes a lock on one file per visible device, and shows CUDA only the device whose lock it holds.
The lock belongs to the open file: the kernel frees it however the process ends.

What is visible is decided outside: by ``CUDA_VISIBLE_DEVICES``, which a scheduler sets as well as a
user, else by ``SLURM_STEP_GPUS`` or ``SLURM_JOB_GPUS``, else it is every device of the machine.
Numbers are those that ``nvidia-smi`` prints (``CUDA_DEVICE_ORDER=PCI_BUS_ID``).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Where a scheduler writes what it assigned, for jobs whose CUDA_VISIBLE_DEVICES was lost.
_ASSIGNED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")

#: The temporary folder that everybody on a machine has in common.
SHARED = Path("/tmp")

#: Seconds between two attempts when every device is taken.
POLL = 1.0

#: Seconds between two messages that say so.
REMIND = 600.0


class LeaseError(ValueError):
    """No device can be leased, and waiting would not help."""


def usable_cores() -> int:
    """Count the cores that this process may use; macOS tells only how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Device:
    """One GPU or one MIG instance.

    Args:
        name: what ``CUDA_VISIBLE_DEVICES`` calls it: a number, a UUID or a MIG name.
        identity: what its lock is called; the same for every name of the device.
    """

    name: str
    identity: str


def present() -> tuple[str, ...]:
    """UUIDs of this machine's NVIDIA GPUs in the order of their numbers, as far as we may see."""
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi failed (%s); locks are named after device numbers instead.", error)
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.startswith("GPU-"))


def visible(
    environment: Mapping[str, str], uuids: Sequence[str] = (), count: int = 0
) -> tuple[Device, ...]:
    """The devices that this process may use, in the order given; none if the environment hides them all.

    Args:
        environment: variables of the process, as in ``os.environ``.
        uuids: UUIDs of the machine's devices in the order of their numbers, where known.
        count: number of devices, for machines whose UUIDs are not known.
    """
    every = [str(number) for number in range(len(uuids) or count)]
    if VISIBLE in environment:
        names = _listed(environment[VISIBLE])
    else:
        assigned = next((environment[key] for key in _ASSIGNED if environment.get(key)), None)
        names = every if assigned is None else _listed(assigned)
        # Inside a device cgroup the assigned devices are all there are, and are numbered anew.
        if uuids and len(uuids) == len(names):
            names = every
    # Numbers without UUID may mean other devices in another allocation.
    scope = [environment[key] for key in ("SLURM_JOB_ID", "SLURM_STEP_ID") if key in environment]
    found: dict[str, Device] = {}
    for name in names:
        identity = _uuid(name, uuids) or "-".join(["device", *scope, name])
        found.setdefault(identity, Device(name, identity))
    return tuple(found.values())


def _listed(value: str) -> list[str]:
    """The names in a device list; as for CUDA, the first that is none ends it."""
    names: list[str] = []
    for name in (part.strip() for part in value.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name):
            break
        names.append(name)
    return names


def _uuid(name: str, uuids: Sequence[str]) -> str | None:
    """The identity of a device that does not depend on how it is called, where there is one."""
    if name.isdigit():
        return uuids[int(name)] if int(name) < len(uuids) else None
    # CUDA allows a UUID to be cut short as long as it stays unique.
    matches = [uuid for uuid in uuids if uuid.startswith(name)]
    return matches[0] if len(matches) == 1 else name


def lock_folder() -> Path:
    """The folder of this user's locks, shared by all workflows on the machine.

    It is ``LQF_LEASES`` if that is set, else a folder in the machine's temporary folder: not in
    ``TMPDIR``, which may differ from one workflow to the next.

    Raises:
        LeaseError: if the folder belongs to somebody else.
    """
    if own := os.environ.get("LQF_LEASES"):
        folder = Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    base = SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / f"lqf-devices-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise LeaseError(
            f"lock folder {folder} is not a folder of this user; remove it, or set LQF_LEASES to "
            "a folder that all workflows on this machine share."
        )
    return folder


def _lock(path: Path) -> TextIO | None:
    """The locked file, or None while somebody else holds it.

    Raises:
        LeaseError: if there are no locks there.
    """
    handle = open(path, "a+")  # noqa: SIM115  (the caller closes it, which frees the lock)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    except OSError as error:
        handle.close()
        raise LeaseError(
            f"the file system of {path.parent} knows no locks ({error.strerror}); set LQF_LEASES to a "
            "folder on a disk of this machine."
        ) from None
    handle.truncate(0)
    handle.write(f"process {os.getpid()}")
    handle.flush()
    return handle


@contextlib.contextmanager
def lease(
    devices: Sequence[Device], folder: Path | None = None, poll: float = POLL
) -> Iterator[Device]:
    """Hold one of some devices; waits, with a message, while all are taken.

    Args:
        devices: what to choose from.
        folder: where the locks are; None for this user's.
        poll: seconds between two attempts.

    Yields:
        The device that no other lease holds until this block ends.

    Raises:
        LeaseError: if there is no device at all.
    """
    if not devices:
        raise LeaseError(
            f"there is no device to lease: {VISIBLE} is {os.environ.get(VISIBLE)!r}, which leaves "
            "none; unset it, or ask the scheduler for one, or set device to cpu."
        )
    folder = folder or lock_folder()
    paths = [folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', one.identity)}.lock" for one in devices]
    said = -REMIND
    while True:
        for device, path in zip(devices, paths, strict=True):
            if (handle := _lock(path)) is not None:
                with handle:
                    log.info("device %s is leased by process %d", device.name, os.getpid())
                    yield device
                return
        if time.monotonic() - said >= REMIND:
            said = time.monotonic()
            holders = ", ".join(path.read_text() for path in paths)
            log.info("all %d devices are taken; waiting for one: %s", len(devices), holders)
        time.sleep(poll)


@functools.cache
def hold(count: int) -> Device:
    """Lease a device for as long as this process lives, and hide the others from CUDA: it is number 0 from now on.

    To be called before CUDA is initialised; further calls return the same device.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    device = _FOR_LIFE.enter_context(lease(visible(os.environ, present(), count)))
    os.environ[VISIBLE] = device.name
    return device


#: Never closed: leases in it end with the process.
_FOR_LIFE = contextlib.ExitStack()
