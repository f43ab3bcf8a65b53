"""Read a prepared data set: images in one memory-mapped array, labels and splits in memory."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lqf.backbones import CENTRED, Normalisation
from lqf.data.catalogue import SPLITS
from lqf.data.folder import read_checked

if TYPE_CHECKING:
    from torch import Tensor

    from lqf.data.feed import Feed


@dataclass(frozen=True, eq=False)
class PackedDataset:
    """A data set on disk.

    Attributes:
        name: Its name in the catalogue.
        classes: Class names.
        images: All images, uint8, N × H × W × 3, memory-mapped and read-only.
        labels: Index into the classes, N.
        splits: The split of each row, N strings out of train, val, test.
        sources: Where each image comes from, N strings.
    """

    name: str
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sources: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path | str) -> PackedDataset:
        """Open a folder that `lqf.data.prepare` wrote.

        Raises:
            ValueError: If a file is missing or damaged.
        """
        folder = Path(folder)
        for file in ("dataset.json", "index.csv", "images.npy"):
            if not (folder / file).is_file():
                raise ValueError(
                    f"no data set in {folder}: {file} is missing; run `python -m lqf prepare` "
                    "with this folder as its output."
                )
        description = read_checked(folder)
        with (folder / "index.csv").open(encoding="utf-8", newline="") as index:
            lines = list(csv.DictReader(index))
        images = np.load(folder / "images.npy", mmap_mode="r")
        return cls(
            name=description["name"],
            classes=tuple(description["classes"]),
            images=images,
            labels=np.array([int(line["label"]) for line in lines], dtype=np.int64),
            splits=np.array([line["split"] for line in lines]),
            sources=tuple(line["source"] for line in lines),
        )

    def only(self, classes: int | None) -> PackedDataset:
        """The first classes alone; images of others belong to no split."""
        if classes is None or classes >= len(self.classes):
            return self
        splits = np.where(self.labels < classes, self.splits, "")
        return replace(self, classes=self.classes[:classes], splits=splits)

    def split_of(self, split: str) -> NDArray[np.int64]:
        """List the rows of train, val or test."""
        return np.flatnonzero(self.splits == split)

    def subset(self, split: str, per_class: int | None = None, seed: int = 0) -> NDArray[np.int64]:
        """Draw rows of a split, equally many of every class as far as they go.

        Each class is shuffled once for a seed, and the classes then take turns. So the draw for k
        images a class is the beginning of the draw for k + 1, and every beginning of it is as
        balanced as its length allows.

        Args:
            split: train, val or test.
            per_class: Most images of each class, or None for the whole split; a smaller class gives all.
            seed: Chooses the order.

        Returns:
            Row numbers in the order of the draw.
        """
        rows = self.split_of(split)
        labels = self.labels[rows]
        numbers = np.bincount(labels, minlength=len(self.classes))
        rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split)]))
        shuffled = rng.permutation(len(rows))
        rows, labels = rows[shuffled], labels[shuffled]
        turns = np.empty_like(rows)
        for label, number in enumerate(numbers):
            turns[labels == label] = np.arange(number)
        if per_class is not None:
            drawn = turns < per_class
            rows, turns = rows[drawn], turns[drawn]
        return rows[np.argsort(turns, kind="stable")]

    def feed(self, rows: NDArray[np.int64], **options: Any) -> Feed:
        """Feed rows to a network a batch at a time, without holding them in memory.

        Args:
            rows: Which images, n.
            options: Of `Feed`: size, normalisation, device, channels_last.

        Returns:
            The images, n × 3 × size × size, read when they are asked for.
        """
        from lqf.data.feed import Feed

        return Feed(self.images, rows, **options)

    def tensors(
        self, rows: NDArray[np.int64], normalisation: Normalisation = CENTRED
    ) -> tuple[Tensor, Tensor]:
        """Read rows as a network takes them.

        Returns:
            Images, float32, n × 3 × H × W, and labels, int64, n.
        """
        import torch

        images = self.feed(rows, normalisation=normalisation, channels_last=False).tensor()
        return images, torch.from_numpy(self.labels[rows])
