"""What tests of several folders share."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without `flock`, as some that clusters share."""

    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture(params=["exact", "iterative"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of fit on the same tiny problem."""
    if request.param == "iterative":
        from lqf.optimum import optimum

        monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    return request.param
