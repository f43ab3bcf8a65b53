import sys
from typing import ClassVar

import pytest
import torch
from benchmarks import feed
from benchmarks.feed import peak_of_feed

# An array of 5.5 MB or 22 MB on disk, 9.8 MB or 39 MB as float32 of what is fed; a batch has 1.6 MB.
FEW, MANY, STORED, SIZE = 200, 800, 96, 64
ALLOWED = 6e6

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="resident memory is read from /proc"
)


def growth() -> int:
    # A first run also loads code and fills pools, once and whatever is fed.
    peak_of_feed(FEW, STORED, SIZE)
    return peak_of_feed(MANY, STORED, SIZE) - peak_of_feed(FEW, STORED, SIZE)


def test_memory_of_the_feed_does_not_grow_with_the_images() -> None:
    assert growth() < ALLOWED


class Hoarding(feed.Feed):
    """Keeps every batch that it has fed."""

    kept: ClassVar[list[torch.Tensor]] = []

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.kept.append(batch)
        return batch


class Mapped(feed.Feed):
    """Reads through the mapping, whose pages then belong to the process."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._file = None


@pytest.mark.parametrize("wasteful", [Hoarding, Mapped])
def test_a_feed_that_keeps_what_it_fed_is_noticed(wasteful, monkeypatch) -> None:
    monkeypatch.setattr(feed, "Feed", wasteful)

    grown = growth()
    Hoarding.kept.clear()

    assert grown > ALLOWED
