"""The newest state of a computation under way, so that a kill costs minutes and not hours.

A state is one file, replaced whole by the next.  It says which piece of work it belongs to and
carries a hash of its content; a file that is damaged, or belongs to other work, is left unread with
a sentence in the log, and the work begins anew.  A job that is told to end (SIGTERM, as at the time
limit of a cluster, or ctrl-C) writes its state at the next step and leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lqf.files import replaced
from lqf.ridge import Snapshot

log = logging.getLogger(__name__)

#: Seconds between two states, unless ``LQF_CHECKPOINT_SECONDS`` says otherwise.
INTERVAL = 600.0

#: Seconds that a job which is told to end may take to reach its next step; schedulers kill after 30.
GRACE = 20

#: Statuses of a process that was ended by SIGTERM and by ctrl-C, as shells report them.
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT

#: The status to end with at the next step; None to go on.
_asked_to_end: int | None = None


def interval() -> float:
    """Seconds between two states.

    Raises:
        ValueError: if ``LQF_CHECKPOINT_SECONDS`` is not a number of seconds.
    """
    text = os.environ.get("LQF_CHECKPOINT_SECONDS", "")
    try:
        seconds = float(text) if text else INTERVAL
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ValueError(
            f"LQF_CHECKPOINT_SECONDS is {text!r}; it must be a number of seconds, 0 or more."
        )
    return seconds


@contextlib.contextmanager
def ending_gently() -> Iterator[None]:
    """In this block SIGTERM and ctrl-C let the computation reach its next step.

    It is given `GRACE` seconds; only a second ctrl-C ends it at once, for SIGTERM comes from the scheduler and
    again when the workflow has ended (`lqf.orphans`). Where interrupts are ignored, as in
    the background of a script, they stay so.
    """
    global _asked_to_end
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        log.warning("stopped between two states; the work since the last one is lost.")
        raise SystemExit(TERMINATED if _asked_to_end is None else _asked_to_end)

    def note(number: int, frame: FrameType | None) -> None:
        global _asked_to_end
        if _asked_to_end is None:
            _asked_to_end = 128 + number
            signal.alarm(GRACE)
        elif number == signal.SIGINT:
            leave(number, frame)

    handlers = {signal.SIGTERM: note, signal.SIGALRM: leave}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers[signal.SIGINT] = note
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        signal.alarm(0)
        _asked_to_end = None
        for number, handler in before.items():
            signal.signal(number, handler)


def write(path: Path, work: str, snapshot: Snapshot) -> None:
    """Write a state in the place of the one before."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()
    }
    numbers = json.dumps(snapshot.numbers)
    about = {"work": work, "numbers": numbers, "hash": _hash(work, numbers, tensors)}
    with replaced(path) as temporary:
        save_file(tensors, temporary, about)


def read(path: Path, work: str) -> Snapshot | None:
    """Read a state; None if there is none, or none of this piece of work."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        log.warning("state %s is damaged (%s); its work begins anew.", path, error)
        return None
    if about.get("work") != work:
        # As it does where a job has several pieces of work of one kind, one after the other.
        log.info("state %s belongs to other work; this one begins anew.", path)
        return None
    numbers = about.get("numbers", "")
    if about.get("hash") != _hash(work, numbers, tensors):
        log.warning("state %s is damaged (its hash is another); its work begins anew.", path)
        return None
    return Snapshot(tensors, json.loads(numbers))


def _hash(work: str, numbers: str, tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256(f"{work}\n{numbers}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


class State:
    """The newest state of one piece of work (a `lqf.ridge.Resume`); without a path nothing is kept.

    Attributes:
        seconds: time that earlier processes spent on what the state holds.
    """

    def __init__(self, path: Path | None, work: str) -> None:
        self._path, self._work = path, work
        self._interval = interval()
        self._started = self._written = time.monotonic()
        self.seconds = 0.0

    def load(self) -> Snapshot | None:
        """The state to go on from; None to begin."""
        found = None if self._path is None else read(self._path, self._work)
        if found is not None:
            self.seconds = found.numbers.pop("seconds")
            log.info("goes on from a state kept after %.0f s of this piece of work", self.seconds)
        return found

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        """Keep a snapshot if it is time, or if the process is asked to end, which it then does.

        Raises:
            SystemExit: after SIGTERM or ctrl-C.
        """
        if self._path is None:
            return
        now = time.monotonic()
        if _asked_to_end is None and now - self._written < self._interval:
            return
        self.keep(snapshot())
        self._written = time.monotonic()
        if _asked_to_end is not None:
            log.warning("asked to end: the state is kept, and the same command goes on from it.")
            raise SystemExit(_asked_to_end)

    def due(self, after: float) -> bool:
        """Whether a result that took so many seconds, or half an interval, is worth keeping."""
        spent = time.monotonic() - self._started
        return _asked_to_end is not None or spent >= min(after, self._interval / 2)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot now."""
        if self._path is None:
            return
        spent = self.seconds + time.monotonic() - self._started
        numbers: dict[str, Any] = {**snapshot.numbers, "seconds": spent}
        try:
            write(self._path, self._work, Snapshot(snapshot.tensors, numbers))
        except (SafetensorError, OSError) as error:
            # What is computed does not depend on it.
            log.warning("state %s could not be kept (%s); the work goes on.", self._path, error)

    def forget(self) -> None:
        """Remove the state: the work is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
