"""What a job has done so far, so that a job that was killed continues where it was.

Finished grid points are kept, and the newest state (`lqf.snapshot`) of the one under way, in a folder
named by a hash of what they mean: settings, data, weights, versions of the method (`lqf.provenance`)
and of torch.  A point made with anything else is therefore never found, and a change of the source that
leaves the numbers alone costs nothing.  The folder lies beside the job's output, where Snakemake does
not know it and does not delete it, and goes when the output is written.

Numbers survive unchanged (JSON keeps every bit of a float), so a continued job writes the bytes of
one that was never interrupted, but for ``wall_s``: that is a point's own training time, measured
by the processes that worked on it.  Time spent after the last state of a process that was killed
is not in it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lqf.provenance import digest
from lqf.ridge import Snapshot
from lqf.snapshot import State, ending_gently, read, write

log = logging.getLogger(__name__)

FOLDER = ".checkpoint"

#: Where the running job keeps its points; None keeps nothing.
_CURRENT: ContextVar[Path | None] = ContextVar("checkpoint", default=None)


@contextlib.contextmanager
def kept(folder: Path, key: str) -> Iterator[Path]:
    """Keep the grid points of the job in this block; forget them when it ends without error.

    Args:
        folder: the run folder, which the caller has locked.
        key: the job's key; what is kept under other keys is forgotten as well, their states, which
            are large, at once.

    Yields:
        The folder of the points.
    """
    points = folder / FOLDER / key
    if points.exists():
        log.info("continues with %d finished grid points", len(list(points.glob("*.point"))))
    points.mkdir(parents=True, exist_ok=True)
    for state in folder.glob(f"{FOLDER}/*/*.safetensors"):
        if state.parent != points:
            state.unlink()
    token = _CURRENT.set(points)
    try:
        with ending_gently():
            yield points
    finally:
        _CURRENT.reset(token)
    shutil.rmtree(folder / FOLDER)


def state_of(kind: str, work: object) -> State:
    """Where the running job keeps the newest state of some work; outside a job, nowhere.

    A newer state of one `kind` takes the place of the last; `work` tells it from others of its kind.
    """
    folder = _CURRENT.get()
    if folder is None:
        return State(None, "")
    return State(folder / f"{kind}.safetensors", digest(folder.name, repr(work)))


class Points:
    """The finished points of one grid, which has a name within its job."""

    def __init__(self, grid: str) -> None:
        self._grid, self._folder = grid, _CURRENT.get()

    def _place(self, point: object) -> tuple[Path | None, str]:
        work = digest(self._grid, repr(point))
        return self._folder and self._folder / f"{work}.point", work

    def get(self, point: object) -> dict[str, Any] | None:
        """What was kept of a point, or None if it is to be computed."""
        path, work = self._place(point)
        found = None if path is None else read(path, work)
        return None if found is None else found.numbers

    def put(self, point: object, result: Mapping[str, Any]) -> None:
        """Keep the result of a finished point: texts, numbers, truth values and None."""
        path, work = self._place(point)
        if path is not None:
            write(path, work, Snapshot({}, dict(result)))

    def state(self, point: object) -> State:
        """Where the newest state of a point under way is kept."""
        return state_of("point", (self._grid, point))
