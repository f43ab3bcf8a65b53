"""Reading and refusing what users hand to the estimator."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

log = logging.getLogger(__name__)

#: Pixels of normalised images do not get there.
UNUSUAL = 30.0

# Images of a data set beyond this many bytes are kept in a memory-mapped temporary file.
IN_MEMORY = 2**32


def read_samples(data: Any, labels: Any = None) -> tuple[Tensor, Any]:
    """Images, floating point, and labels of a training or test set, the labels as they were given.

    Args:
        data: images N × 3 × H × W, a pair (images, labels), a Dataset of (image, label), or a DataLoader
            of batches of them.
        labels: where ``data`` is the images.

    Raises:
        ValueError: if they are not images, or there are no labels.
    """
    images, found = _parts(data) if labels is None else (data, labels)
    if found is None:
        raise ValueError(
            f"the data is a {type(data).__name__} without labels; give images and labels, a pair of them, a torch "
            "Dataset with a length, or a DataLoader."
        )
    return read_images(images), found


def images_only(data: Any) -> Tensor:
    """The images of a data set whose labels do not matter; as `read_samples` takes them, or images alone."""
    return read_images(_parts(data)[0])


def _parts(data: Any) -> tuple[Any, Any]:
    """Images, not yet checked, and labels; None where there are none."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    if isinstance(data, DataLoader):
        return _batches(data)
    if isinstance(data, Dataset) and isinstance(data, Sized):
        return _stacked(data)
    return data, None


def read_images(images: Any) -> Tensor:
    """Images, N × channels × H × W, a tensor or an array, as a floating-point tensor.

    Raises:
        ValueError: if they are not images, none, not floating point, or not finite.
    """
    pictures = _tensor(images)
    if pictures.ndim != 4:
        raise ValueError(
            f"images has shape {tuple(pictures.shape)}; it must be N × 3 × H × W (a single image "
            "is images[None])."
        )
    if not len(pictures):
        raise ValueError("images is empty; at least one image is needed.")
    if not pictures.dtype.is_floating_point:
        raise ValueError(_not_floating(pictures.dtype))
    bad = torch.cat([~torch.isfinite(part).flatten(1).all(1) for part in pictures.split(256)])
    if bad.any():
        raise ValueError(
            f"image {int(bad.nonzero()[0])} contains NaN or infinite values ({int(bad.sum())} "
            "images do); remove or repair them."
        )
    if (largest := max(float(part.max()) for part in pictures.split(256))) > UNUSUAL:
        log.warning(
            "images reach %.4g; networks are pre-trained on values of a few units: divide 0 … 255 by 255, "
            "then normalise as the network was pre-trained",
            largest,
        )
    return pictures


def check_independence(network: nn.Module, images: Tensor) -> None:
    """Refuse a network, in evaluation mode, whose output for an image is not a function of that image alone.

    Raises:
        ValueError: if its output changes with the other images of a batch, or by chance.
    """
    pair = torch.stack([images[0], images[-1]])
    with torch.no_grad():
        together = network(pair)
        apart = torch.cat([network(pair[:1]), network(pair[1:])])
    rounding = torch.finfo(together.dtype).eps ** 0.5
    if not torch.allclose(together, apart, rtol=10 * rounding, atol=10 * rounding):
        raise ValueError(
            f"{type(network).__name__} gives an image other outputs alone than beside another one, "
            "even in evaluation mode; a linearised network needs outputs that depend on the image "
            "alone: batch norm with running statistics, and dropout that evaluation mode turns off."
        )


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
        tensor = torch.as_tensor(array) if array.dtype.kind not in "US" else None
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a {type(values).__name__} was given where a tensor or an array of numbers is needed."
        ) from error
    if tensor is None:
        raise ValueError(
            f"{str(array.ravel()[0])!r} was given where a number is needed: images are N × 3 × H × W."
        )
    return tensor


def _batches(loader: DataLoader[Any]) -> tuple[Tensor, Any]:
    """Images and labels of all batches.

    Raises:
        ValueError: if there are none, or a batch is no pair.
    """
    images: list[Tensor] = []
    labels: list[np.ndarray] = []
    for batch in tqdm(loader, desc="read", disable=None, leave=False):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                f"a batch of the DataLoader is a {type(batch).__name__}; pairs (images, labels) are needed."
            )
        images.append(_tensor(batch[0]).cpu())
        labels.append(np.asarray(batch[1]))
    if not images:
        raise ValueError("the DataLoader is empty; at least one image is needed.")
    return torch.cat(images), np.concatenate(labels)


def _stacked(data: Dataset[Any]) -> tuple[Tensor, list[Any]]:
    """Images, in a temporary file where they are many, and labels of a data set, read once, one item at a time.

    Raises:
        ValueError: if there are none, an item is no pair, or the images' shapes differ.
    """
    count = len(data)  # type: ignore[arg-type]
    if not count:
        raise ValueError("the data set is empty; at least one image is needed.")
    images: Tensor | None = None
    labels: list[Any] = []
    for i in tqdm(range(count), desc="read", disable=None, leave=False):
        item = data[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"item {i} of the data set is a {type(item).__name__}; a pair (image, label) is needed."
            )
        image = _tensor(item[0])
        if not image.dtype.is_floating_point:
            raise ValueError(_not_floating(image.dtype))
        if images is None:
            images = _room(count, image)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"image {i} has shape {tuple(image.shape)} and image 0 {tuple(images.shape[1:])}; "
                "resize them to one shape in the data set's transform."
            )
        images[i] = image
        label = item[1]
        labels.append(label.tolist() if isinstance(label, Tensor | np.ndarray) else label)
    return images, labels  # type: ignore[return-value]


def _room(count: int, image: Tensor) -> Tensor:
    """Room for N images like this one: in memory, or mapped from a file that has no name."""
    shape = (count, *image.shape)
    if count * image.numel() * image.element_size() <= IN_MEMORY:
        return torch.empty(shape, dtype=image.dtype)
    with tempfile.TemporaryDirectory(prefix="lqf-images-") as folder:
        # The mapping outlives the name; the space is freed with the last tensor that uses it.
        path, size = os.path.join(folder, "images"), count * image.numel()
        return torch.from_file(path, shared=True, size=size, dtype=image.dtype).reshape(shape)


def _not_floating(dtype: torch.dtype) -> str:
    return (
        f"images are {dtype}; floating point is needed, normalised as the network was pre-trained."
    )
