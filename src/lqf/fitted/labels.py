"""Positions, weights and groups of training samples, as users give them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lqf.fitted.targets import Targets

log = logging.getLogger(__name__)

# 1/ω of a sample of weight zero: its target counts for nothing.
_NOTHING = 1e12


def positions(indices: Any, samples: int) -> tuple[Tensor, Tensor]:
    """Positions of the samples that stay and of those that leave: a position, several, a slice, or a mask of N.

    Raises:
        ValueError: if a position is outside 0 … N−1 or given twice, or none or all are given.
    """
    if isinstance(indices, slice):
        index = np.arange(samples)[indices]
    else:
        values = indices.detach().cpu().numpy() if isinstance(indices, Tensor) else indices
        index = np.atleast_1d(np.asarray(values))
    if index.dtype.kind == "b":
        if index.shape != (samples,):
            raise ValueError(
                f"the mask of samples has shape {index.shape}; ({samples},) is needed."
            )
        index = index.nonzero()[0]
    if index.ndim != 1 or (index.dtype.kind not in "iu" and index.size):
        raise ValueError(
            f"index has shape {index.shape} and type {index.dtype}; give integer sample positions, a slice, "
            "or a mask."
        )
    index = index.astype(np.int64)
    outside = index[(index < -samples) | (index >= samples)]
    if len(outside):
        raise ValueError(
            f"index contains {outside[0]}; the {samples} samples have positions 0 to {samples - 1}."
        )
    index = index % samples
    if len(np.unique(index)) != len(index):
        raise ValueError("index names a sample more than once; give each position once.")
    if not 0 < len(index) < samples:
        raise ValueError(
            f"index names {len(index)} of {samples} samples; remove at least one and leave at least one."
        )
    stay = np.setdiff1d(np.arange(samples), index)
    return torch.from_numpy(stay), torch.from_numpy(index)


def checked_weights(
    targets: Targets, labels: Any, samples: int, weight: Any, groups: Any, class_weight: str | None
) -> tuple[Tensor | None, Tensor | None]:
    """1/ω and groups of the samples, N each; None where all are alike.

    Args:
        targets: how labels are encoded.
        labels: N.
        samples: N.
        weight: ω ≥ 0, N; None for ones.
        groups: anything that names each sample's group, N; None for none.
        class_weight: ``balanced`` or None.

    Raises:
        ValueError: if a weight is negative or not finite, or there are not N.
    """
    found: Tensor | None = None
    if weight is not None:
        found = torch.as_tensor(np.asarray(weight, dtype=np.float64))
        if found.shape != (samples,) or not bool((found >= 0).all()) or not found.sum() > 0:
            raise ValueError(
                f"sample_weight has shape {tuple(found.shape)} for {samples} images; one finite number of "
                "at least 0 an image is needed, and not all of them 0."
            )
        if not bool(torch.isfinite(found).all()):
            raise ValueError("sample_weight contains NaN or infinite values.")
    if class_weight == "balanced":
        if targets.kind != "classes":
            raise ValueError(
                f"class_weight='balanced' is for classes; the labels are {targets.kind}."
            )
        numbers = targets.numbers(labels)
        counts = torch.bincount(numbers, minlength=targets.outputs).double()
        balance = (samples / (targets.outputs * counts))[numbers]
        found = balance if found is None else found * balance
    together: Tensor | None = None
    if groups is not None:
        named = np.asarray(groups)
        if named.shape != (samples,):
            raise ValueError(
                f"groups has shape {named.shape} for {samples} images; one an image is needed."
            )
        together = torch.from_numpy(np.unique(named, return_inverse=True)[1])
        if int(together.max()) == 0:
            raise ValueError(
                "all samples are in one group; at least two are needed to leave one out."
            )
    noise = None if found is None else torch.where(found > 0, 1 / found, _NOTHING)
    return noise, together


def same_pictures(images: Tensor) -> None:
    """Tell of images that are in the training set twice: leave-one-out then sees the other copy."""
    flat = images.flatten(1)
    keys = torch.stack(
        [flat.double().sum(1), flat.double().square().sum(1), flat[:, 0].double()], 1
    )
    _, inverse, counts = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
    twice = int((counts[inverse] > 1).sum())
    if twice:
        log.warning(
            "%d of %d training images are copies of each other, so leave-one-out is too sure and chooses too "
            "small a ridge; give the copies one group: fit(..., groups=...)",
            twice,
            len(images),
        )


def taken(labels: Any, kept: Tensor) -> Any:
    """The labels of some samples."""
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    return values[kept.cpu().numpy()]


def joined(labels: Any, more: Any) -> Any:
    """Labels and further ones."""
    every = torch.arange(len(labels)), torch.arange(len(more))
    return np.concatenate([taken(labels, every[0]), taken(more, every[1])])
