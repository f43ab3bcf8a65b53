"""What a network's images have to be able to do, in memory or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """N × 3 × H × W images as a network takes them: a tensor, or one that is read in batches.

    Nothing that takes images asks for all of them at once, so its memory need not grow with N.
    """

    @property
    def shape(self) -> Sequence[int]:
        """N, 3, H, W."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the tensors that are given out."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: Any) -> Tensor:
        """The images in ``index`` (a tensor of positions, a slice, or one position)."""

    def split(self, size: int) -> Iterable[Tensor]:
        """All images in order, ``size`` at a time."""
