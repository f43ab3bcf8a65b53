"""What one run of a network at w0 computed, kept, so that further runs compute tangents only.

w0 and the images of a full batch never change while a linearised network is fitted, so neither do
the primal values nor the graph of f0.  The first run keeps the primal result of every function
that met a pair; a later run of the same network, which calls the same functions in the
same order, is given these results in the place of computing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_CURRENT: ContextVar[Kept | None] = ContextVar("kept", default=None)


class Kept:
    """The run of a network at w0 on one batch of images, kept from one product to the next.

    The first product with it runs the network, further ones compute tangents and gradients only (4
    units of work a pass, not 5).  It holds the graph of f0 as long as it lives.

    Attributes:
        leaves: the trained parameters by name, as leaves of the graph.
        outputs: f0 with its graph; None before the first product.
        refusal: why the network has to be run each time; None where it need not.
    """

    def __init__(self) -> None:
        self.leaves: dict[str, Tensor] = {}
        self.outputs: Tensor | None = None
        self.refusal: str | None = None
        self._results: list[Any] = []
        self._read: list[tuple[Tensor, int]] = []
        self._next: int | None = None  # before the first run has ended there is none

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the run of a network inside the block; give its results out if there was one."""
        replays = self._next is not None
        self._next = 0 if replays else None
        before = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(before)
        if replays:
            if self._next != len(self._results):
                self.refusal = "the network does not call the same functions each time."
            return
        # A value that a function read, and that another one changed in place after it, is not
        # what that function would read again.
        if any(tensor._version != version for tensor, version in self._read):
            self.refusal = self.refusal or "a value is changed in place after it was used."
        self._read.clear()
        self._next = 0

    def result(self, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gave in the first run, which calls it."""
        if self._next is None:
            self._results.append(compute())
            return self._results[-1]
        if self._next >= len(self._results):
            self.refusal = "the network does not call the same functions each time."
            return compute()
        self._next += 1
        return self._results[self._next - 1]

    def note(self, *values: Any) -> None:
        """Remember what primals hold, to see at the end of the run whether they still do."""
        if self._next is None:
            self._read += [(value, value._version) for value in values if isinstance(value, Tensor)]


def primal(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """A function of primals, or what it gave before where that is kept."""
    reads(*args, *named.values())
    return once(lambda: function(*args, **named))


def once(compute: Callable[[], Any]) -> Any:
    """What is computed in the first run alone: a change in place, or a copy of what is changed."""
    kept = _CURRENT.get()
    return compute() if kept is None else kept.result(compute)


def reads(*values: Any) -> None:
    """Primals that have to be what they are now when the run is repeated."""
    kept = _CURRENT.get()
    if kept is not None:
        kept.note(*values)


def refuse(reason: str) -> None:
    """Tell what keeps the run, if anything does, that it cannot be repeated."""
    kept = _CURRENT.get()
    if kept is not None:
        kept.refusal = reason
