"""Reading and refusing what users hand to the estimator."""

from __future__ import annotations

import operator
import os
import tempfile
from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

# Images of a data set beyond this many bytes are kept in a memory-mapped temporary file.
IN_MEMORY = 2**32


def read_samples(data: Any, classes: int) -> tuple[Tensor, Tensor]:
    """Images and labels of a data set.

    Args:
        data: a pair (images N × 3 × H × W, labels N), or a Dataset of (image, label).
        classes: C.

    Returns:
        Images (floating point) and labels (int64).

    Raises:
        ValueError: if shapes, types or labels are not those of a classification task.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
    elif isinstance(data, Dataset) and isinstance(data, Sized):
        images, labels = _stacked(data)
    else:
        raise ValueError(
            f"the data is a {type(data).__name__}; give a pair (images N × 3 × H × W, labels N) or "
            "a torch Dataset with a length."
        )
    pictures = read_images(images)
    marks = _tensor(labels)
    if marks.shape != (len(pictures),):
        raise ValueError(
            f"labels has shape {tuple(marks.shape)} for {len(pictures)} images; one label an image "
            f"is needed, shape ({len(pictures)},)."
        )
    if marks.dtype.is_floating_point or marks.dtype is torch.bool or marks.dtype.is_complex:
        raise ValueError(f"labels are {marks.dtype}; integers 0 to {classes - 1} are needed.")
    marks = marks.to(torch.int64)
    outside = marks[(marks < 0) | (marks >= classes)]
    if len(outside):
        raise ValueError(
            f"labels contains {outside[0].item()}; with classes={classes} the labels must be 0 to "
            f"{classes - 1}."
        )
    return pictures, marks


def images_only(data: Any) -> Any:
    """The images of a data set whose labels do not matter.

    Args:
        data: images, a pair (images, labels), or a Dataset of (image, label).

    Returns:
        The images, not yet checked.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0]
    if isinstance(data, Dataset) and isinstance(data, Sized):
        return _stacked(data)[0]
    return data


def read_images(images: Any) -> Tensor:
    """Images as a floating-point tensor.

    Args:
        images: N × channels × H × W, a tensor or an array.

    Returns:
        The same as a tensor.

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
    return pictures


def check_classes(labels: Tensor) -> None:
    """Refuse a training set from which nothing can be told apart.

    Args:
        labels: y, N.

    Raises:
        ValueError: if fewer than two classes occur.
    """
    present = labels.unique()
    if len(present) < 2:
        raise ValueError(
            f"the training labels contain only class {present[0].item()}; at least two classes "
            "are needed."
        )


def trial_outputs(network: nn.Module, images: Tensor, classes: int) -> None:
    """Refuse images that the network cannot take, or outputs that are not C numbers.

    Args:
        network: the network, in evaluation mode.
        images: N × channels × H × W.
        classes: C.

    Raises:
        ValueError: if the network fails on one image, or its output has another shape.
    """
    try:
        with torch.no_grad():
            outputs = network(images[:1])
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{type(network).__name__} cannot take images of shape {tuple(images.shape[1:])}: "
            f"{reason}"
        ) from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != (1, classes):
        raise ValueError(
            f"{type(network).__name__} gives {shape} for one image; (1, {classes}) is needed: use "
            "head='random', or change classes."
        )


def check_independence(network: nn.Module, images: Tensor) -> None:
    """Refuse a network whose output for an image is not a function of that image alone.

    Args:
        network: the network, in evaluation mode.
        images: N × channels × H × W; the first and the last are tried.

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
            f"{str(array.ravel()[0])!r} was given where a number is needed; turn names of classes "
            "into numbers 0 to C - 1, as sklearn.preprocessing.LabelEncoder does."
        )
    return tensor


def _stacked(data: Dataset[Any]) -> tuple[Tensor, Tensor]:
    """Images and labels of a data set, read once, one item at a time.

    Returns:
        Images, in a temporary file of the system's own where they are many, and labels.

    Raises:
        ValueError: if there are none, an item is no pair, or the images' shapes differ.
    """
    count = len(data)  # type: ignore[arg-type]
    if not count:
        raise ValueError("the data set is empty; at least one image is needed.")
    images: Tensor | None = None
    labels: list[int] = []
    for i in tqdm(range(count), desc="read", disable=None, leave=False):
        image, label = _pair(data[i], i)
        if images is None:
            images = _room(count, image)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"image {i} has shape {tuple(image.shape)} and image 0 {tuple(images.shape[1:])}; "
                "resize them to one shape in the data set's transform."
            )
        images[i] = image
        labels.append(label)
    return images, torch.tensor(labels)  # type: ignore[return-value]


def _pair(item: Any, i: int) -> tuple[Tensor, int]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ValueError(
            f"item {i} of the data set is a {type(item).__name__}; a pair (image, label) is needed."
        )
    try:
        label = operator.index(item[1])
    except TypeError as error:
        raise ValueError(f"the label of item {i} is {item[1]!r}; an integer is needed.") from error
    image = _tensor(item[0])
    if not image.dtype.is_floating_point:
        raise ValueError(_not_floating(image.dtype))
    return image, label


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
