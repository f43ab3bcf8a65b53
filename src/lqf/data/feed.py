"""Feed a network from a packed data set: a batch is read, cut, flipped and normalised when asked for.

Nothing is kept, so memory does not grow with the number of images. Batches leave as uint8 and become
floating point on the device.
"""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lqf.backbones import CENTRED, Normalisation


class Feed:
    """N × 3 × H × W images of a packed array, in the order of ``rows``; a `lqf.jacobian.Images`.

    Without augmentation the middle of each stored image is cut out. `augmented` gives the same images
    with random crops and flips.

    Args:
        stored: all images, uint8, M × S × S × 3; a memory-mapped file is read image by image.
        rows: the images that are fed, N.
        size: height and width of the images that are given out, H = W ≤ S; None for S.
        normalisation: mean and deviation of the channels, for pixels in [0, 1].
        device: where batches go.
        dtype: floating point of the batches.
        channels_last: how a batch lies in memory.

    Raises:
        ValueError: if the images are larger than those stored, or a row is not in the array.
    """

    def __init__(
        self,
        stored: NDArray[np.uint8],
        rows: NDArray[np.int64],
        *,
        size: int | None = None,
        normalisation: Normalisation = CENTRED,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
    ) -> None:
        side = min(stored.shape[1:3])
        if size is not None and not 1 <= size <= side:
            raise ValueError(
                f"image_size is {size}, but the stored images have {side} pixels: set image_size to "
                f"at most {side}, or prepare the data set again with a larger stored_size."
            )
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(stored):
            raise ValueError(
                f"rows go from {rows.min()} to {rows.max()}, but the array has {len(stored)} images."
            )
        self.size = size or side
        self.dtype, self.device = dtype, torch.device(device)
        self._channels_last = channels_last
        self._stored, self._rows = stored, rows
        self._file, self._begin = None, 0
        # A part of a mapping does not know where in the file it begins: only a whole one is read so.
        if isinstance(stored, np.memmap) and isinstance(stored.base, mmap.mmap):
            self._file, self._begin = open(str(stored.filename), "rb"), stored.offset  # noqa: SIM115
        # One of each line of pixels: torch is slow where it repeats three numbers.
        self._mean, self._deviation = (
            torch.tensor(values, dtype=dtype, device=self.device).repeat(self.size)
            for values in (normalisation.mean, normalisation.deviation)
        )
        middle = [(length - self.size) // 2 for length in stored.shape[1:3]]
        self._corners = np.broadcast_to(np.array(middle), (len(rows), 2))
        self._flipped = np.broadcast_to(np.array(False), (len(rows),))

    @property
    def shape(self) -> torch.Size:
        """N, 3, H, W."""
        return torch.Size((len(self._rows), 3, self.size, self.size))

    @property
    def nbytes(self) -> int:
        """What all images would take in memory, in bytes."""
        return self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        """N."""
        return len(self._rows)

    def take(self, index: Tensor | slice) -> Feed:
        """The feed of the images in ``index`` only; nothing is read."""
        part = copy.copy(self)
        chosen = index.cpu().numpy() if isinstance(index, Tensor) else index
        part._rows = self._rows[chosen]
        part._corners, part._flipped = self._corners[chosen], self._flipped[chosen]
        return part

    def augmented(self, seed: int, epoch: int) -> Feed:
        """The same images, each with a random crop and, for every second one, flipped.

        What is drawn belongs to the image's position in the feed: it does not depend on the batches
        or on their order.

        Args:
            seed: seed of the run.
            epoch: the epoch; each has crops and flips of its own.
        """
        rng = np.random.default_rng([seed, epoch])
        height, width = (length - self.size + 1 for length in self._stored.shape[1:3])
        part = copy.copy(self)
        part._corners = rng.integers(0, (height, width), (len(self), 2))
        part._flipped = rng.random(len(self)) < 0.5
        return part

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """Read images: b × 3 × H × W, or 3 × H × W for one position."""
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        images = self.take(index)._batch().permute(0, 3, 1, 2)
        return images if self._channels_last else images.contiguous()

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def tensor(self) -> Tensor:
        """All images at once, for data sets that are small."""
        return self[:]

    def _batch(self) -> Tensor:
        """The images, b × H × W × 3, which go to the device as uint8."""
        size = self.size
        pinned = self.device.type == "cuda"
        batch = torch.empty(len(self), size, size, 3, dtype=torch.uint8, pin_memory=pinned)
        for place, crop in zip(batch.flatten(2).numpy(), self._crops(), strict=True):
            place[:] = crop
        pixels = batch.to(self.device, non_blocking=True)
        if self._flipped.any():
            flipped = torch.from_numpy(self._flipped.copy()).to(self.device)
            pixels = torch.where(flipped[:, None, None, None], pixels.flip(2), pixels)
        images = pixels.to(self.dtype)
        images.flatten(2).div_(255).sub_(self._mean).div_(self._deviation)
        return images

    def _crops(self) -> Iterator[NDArray[np.uint8]]:
        """The crop of each image, H × 3W; it is there until the next one is asked for."""
        buffer = np.empty((self.size, 3 * self._stored.shape[2]), np.uint8)
        for row, (y, x) in zip(self._rows, self._corners, strict=True):
            self._read(int(row), int(y), buffer)
            yield buffer[:, 3 * x : 3 * (x + self.size)]

    # Read H lines of a stored image into H × 3S.
    # A mapping would keep what was read in the memory of the process; a file does not.
    def _read(self, row: int, top: int, lines: NDArray[np.uint8]) -> None:
        if self._file is None:
            lines[:] = self._stored[row, top : top + self.size].reshape(lines.shape)
            return
        height, width = self._stored.shape[1:3]
        begin = self._begin + 3 * width * (row * height + top)
        if os.preadv(self._file.fileno(), [lines], begin) < lines.nbytes:
            raise OSError(f"{self._file.name} ends before image {row}; prepare the data set again.")
