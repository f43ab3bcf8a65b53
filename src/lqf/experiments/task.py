"""The data and the network of one job: a task's splits as tensors, a backbone with a new head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lqf import backbones
from lqf.compute import Compute
from lqf.data.feed import Feed
from lqf.data.packed import PackedDataset
from lqf.jacobian import Images
from lqf.method import Method
from lqf.networks import Classifier, CovariancePooling, build, recalibrate_batch_norm
from lqf.networks.weights import read_state
from lqf.run import device

Settings = Mapping[str, Any]

#: Training images that covariance pooling is calibrated on, at most.
CALIBRATION = 256

#: Splits up to this many bytes of float32 are held in memory; larger ones are fed from disk.
IN_MEMORY = 1 << 30


@dataclass(frozen=True)
class Split:
    """Images (N × 3 × H × W, normalised; in memory or fed from disk) and labels (N)."""

    images: Images
    labels: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> Split:
        """The first ``count`` samples."""
        return Split(self._images(slice(count)), self.labels[:count], self.rows[:count])

    def select(self, index: Tensor) -> Split:
        """The samples in ``index``."""
        return Split(self._images(index), self.labels[index], self.rows[index.cpu()])

    def _images(self, index: Tensor | slice) -> Images:
        return self.images.take(index) if isinstance(self.images, Feed) else self.images[index]


def views_of(images: Images, seed: int) -> Callable[[int], Images]:
    """The images of each epoch, cropped and flipped at random.

    Args:
        images: the images, fed from disk.
        seed: seed of the run.

    Returns:
        A function of the epoch.

    Raises:
        ValueError: if the images are held in memory, cropped already.
    """
    if not isinstance(images, Feed):
        raise ValueError(  # noqa: TRY004  (a setting, not a type, is wrong)
            "augment is true, but the images are held in memory as they are; read them with "
            "`PackedDataset.feed`, or set augment to false."
        )
    return lambda epoch: images.augmented(seed, epoch)


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


def read_split(data: PackedDataset, rows: NDArray[np.int64], settings: Settings) -> Split:
    """Some images for the job's device: in memory if they are few, else fed from disk.

    Args:
        data: the data set.
        rows: numbers of the images.
        settings: the job's settings; ``image_size``, ``backbone`` and what is augmented matter.
    """
    images: Images = data.feed(
        rows,
        size=settings["image_size"],
        normalisation=backbones.normalisation(settings["backbone"]),
        device=device(),
        channels_last=Compute.of(settings).channels_last,
    )
    augmented = any(section.get("augment") for section in settings.get("training", {}).values())
    if isinstance(images, Feed) and images.nbytes <= IN_MEMORY and not augmented:
        images = images.tensor()
    labels = torch.from_numpy(data.labels[rows])
    return Split(images, labels.to(device()), torch.as_tensor(rows))


def load_task(
    folder: Path, name: str, per_class: int | None, settings: Settings, seed: int = 0
) -> Task:
    """Read a prepared data set.

    Args:
        folder: folder of the prepared data set.
        name: its name.
        per_class: most training samples a class, or None for all; there are then no more validation
            samples a class than that, as somebody with so few images would have no more.
        settings: the job's settings.
        seed: draw of the samples.
    """
    data = PackedDataset.load(folder).only(settings.get("classes"))
    rows = {split: data.subset(split, per_class, seed) for split in ("train", "val")}
    rows["test"] = data.subset("test")
    splits = {split: read_split(data, which, settings) for split, which in rows.items()}
    return Task(name, tuple(data.classes), **splits)


def with_validation(folder: Path, task: Task, settings: Settings) -> Task:
    """The task with its validation images among the training images, for the fit that is reported.

    Arguments as in `load_task`.
    """
    rows = np.concatenate([task.train.rows.numpy(), task.val.rows.numpy()])
    return replace(task, train=read_split(PackedDataset.load(folder), rows, settings))


def build_network(
    method: Method, weights: Path, classes: int, maps_of: Images, settings: Settings, seed: int
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
    network.features.load_state_dict(read_state(weights))
    layout = Compute.of(settings).memory_format
    network = network.to(device()).to(memory_format=layout).eval()
    if backbones.swapped(backbone, method.activation):
        recalibrate_batch_norm(network.features, maps_of)
    if isinstance(network.pool, CovariancePooling):
        with torch.no_grad():
            # Unlabelled images of one pass are plenty for a covariance of some hundred channels.
            network.pool.calibrate(network.features(maps_of[:CALIBRATION]))
    return network
