"""The data and the network of one job: a task's splits as tensors, a backbone with a new head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lqf import backbones
from lqf.data.packed import PackedDataset
from lqf.method import Method
from lqf.networks import Classifier, CovariancePooling, build, recalibrate_batch_norm
from lqf.run import device

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """Images (N × 3 × H × W, normalised) and labels (N)."""

    images: Tensor
    labels: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> Split:
        """The first ``count`` samples."""
        return Split(self.images[:count], self.labels[:count], self.rows[:count])

    def select(self, index: Tensor) -> Split:
        """The samples in ``index``."""
        return Split(self.images[index], self.labels[index], self.rows[index.cpu()])


@dataclass(frozen=True)
class Task:
    """One target data set: what is trained on, what chooses, and what is reported."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split

    @property
    def classes(self) -> int:
        """C."""
        return len(self.class_names)


def read_split(data: PackedDataset, name: str, per_class: int | None, seed: int = 0) -> Split:
    """A split on the job's device; ``per_class`` samples of each class, or all if None."""
    rows = data.subset(name, per_class=per_class, seed=seed)
    images, labels = data.tensors(rows)
    images = images.to(device()).contiguous(memory_format=torch.channels_last)
    return Split(images, labels.to(device()), torch.as_tensor(rows))


def load_task(folder: Path, name: str, per_class: int | None, seed: int = 0) -> Task:
    """Read a prepared data set.

    Args:
        folder: folder of the prepared data set.
        name: its name.
        per_class: training samples a class, or None for all.
        seed: draw of the training samples.
    """
    data = PackedDataset.load(folder)
    return Task(
        name,
        tuple(data.classes),
        read_split(data, "train", per_class, seed),
        read_split(data, "val", None),
        read_split(data, "test", None),
    )


def build_network(
    method: Method, weights: Path, classes: int, maps_of: Tensor, settings: Settings, seed: int
) -> Classifier:
    """The pre-trained backbone with a new head, in evaluation mode.

    Args:
        method: decides activation and pooling.
        weights: state dict of the features, safetensors.
        classes: C.
        maps_of: training images (labels unused) on which covariance pooling is calibrated, and the
            statistics of batch norm where ``backbone.weights`` says ``swap``.
        settings: the job's settings; its ``backbone`` section is used.
        seed: seed of the head.
    """
    backbone = settings["backbone"]
    network = build(
        backbone["network"],
        classes,
        activation=method.activation,
        slope=backbone["slope"],
        pooling=method.pooling,
        covariance_dimension=backbone["covariance_dimension"],
        seed=seed,
    )
    network.features.load_state_dict(load_file(weights))
    network = network.to(device()).to(memory_format=torch.channels_last).eval()
    if backbones.swapped(backbone, method.activation):
        recalibrate_batch_norm(network.features, maps_of)
    if isinstance(network.pool, CovariancePooling):
        with torch.no_grad():
            network.pool.calibrate(network.features(maps_of))
    return network
