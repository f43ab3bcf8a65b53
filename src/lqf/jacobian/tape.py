"""What one run of a network at w0 computed, kept, so that further runs compute tangents only.

w0 and the images of a full batch never change while a linearised network is fitted, so neither do
the primal values nor the graph of f0.  The first run writes the primal result of every function
that met a pair onto a tape; a later run of the same network, which calls the same functions in the
same order, is given these results in the place of computing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_CURRENT: ContextVar[Tape | None] = ContextVar("tape", default=None)


class Tape:
    """Primal results in the order in which a network computes them.

    Attributes:
        refusal: why further runs cannot be given these results; None where they can.
    """

    def __init__(self) -> None:
        self._results: list[Any] = []
        self._read: list[tuple[Tensor, int]] = []
        self._next: int | None = None  # while it is written there is none
        self.refusal: str | None = None

    @property
    def written(self) -> bool:
        """Whether a run has been written to its end."""
        return self._next is not None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write the run of a network inside the block; give its results out if it was written."""
        replays = self.written
        self._next = 0 if replays else None
        before = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(before)
        if replays and self._next != len(self._results):
            self.refusal = "the network does not call the same functions each time."
        if not replays:
            # A value that a function read, and that another one changed in place after it, is not
            # what that function would read again.
            altered = any(tensor._version != version for tensor, version in self._read)
            if altered and self.refusal is None:
                self.refusal = "a value is changed in place after it was used."
            self._read.clear()
            self._next = 0

    def result(self, compute: Callable[[], Any], *read: Any) -> Any:
        """What ``compute`` gave in the run that was written; its first run is that one.

        Args:
            compute: computes a result from primals.
            read: the primals, as far as they have to be what they were.
        """
        if self._next is not None:
            if self._next >= len(self._results):
                self.refusal = "the network does not call the same functions each time."
                return compute()
            self._next += 1
            return self._results[self._next - 1]
        self.note(read)
        self._results.append(compute())
        return self._results[-1]

    def note(self, read: Iterable[Any]) -> None:
        """Remember what tensors hold, to see at the end of the run whether they still do."""
        if self._next is None:
            self._read += [(value, value._version) for value in read if isinstance(value, Tensor)]


def primal(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """A function of primals, or what it gave before where a tape knows it."""
    tape = _CURRENT.get()
    if tape is None:
        return function(*args, **named)
    return tape.result(lambda: function(*args, **named), *args, *named.values())


def changed(compute: Callable[[], Any]) -> Any:
    """A primal that is computed in place; where a tape holds it, it has been changed already."""
    tape = _CURRENT.get()
    return compute() if tape is None else tape.result(compute)


def before(value: Tensor) -> Tensor:
    """A primal as it is before a function changes it in place."""
    tape = _CURRENT.get()
    return value if tape is None else tape.result(value.clone)


def reads(*values: Tensor) -> None:
    """Primals that have to be what they are now when the run is repeated."""
    tape = _CURRENT.get()
    if tape is not None:
        tape.note(values)


def refuse(reason: str) -> None:
    """Tell the tape, if there is one, that this run cannot be repeated from it."""
    tape = _CURRENT.get()
    if tape is not None:
        tape.refusal = reason
