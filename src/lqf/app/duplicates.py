"""Which images are the same: file by file, pixel by pixel, or nearly so (mirrored, re-encoded)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lqf.app.photos import Photos

# Images are compared at this height and width, in colour.
_SIDE = 24
#: Correlation of two images, mean and contrast removed, from which they are near duplicates.
NEAR = 0.985
# Images with less contrast (standard deviation, of 255) are alike for any pair of them.
_FLAT = 2.0


@dataclass(frozen=True)
class Duplicates:
    """Groups of images that are the same or nearly.

    Attributes:
        group: Number of its group from 1, by image; 0 for an image that is alone. M.
        exact: Whether another file of its group has the same bytes, M.
    """

    group: NDArray[np.int64]
    exact: NDArray[np.bool_]


def find_duplicates(photos: Photos) -> Duplicates:
    """Compare every image with every other and its mirror image."""
    small = np.stack([_small(image) for image in photos.pixels])
    flat = small.std((1, 2, 3)) < _FLAT
    rows, mirrored = _standardised(small), _standardised(small[:, :, ::-1])
    same = _pairs(np.unique(photos.hashes, return_inverse=True)[1])
    number, near = len(photos), []
    for start in range(0, number, 512):
        part = rows[start : start + 512]
        likeness = np.maximum(part @ rows.T, part @ mirrored.T)
        likeness[np.arange(len(part)), start + np.arange(len(part))] = -1
        likeness[flat[start : start + 512]] = -1
        likeness[:, flat] = -1
        first, second = np.nonzero(likeness >= NEAR)
        near.append(np.stack([first + start, second], 1))
    exact = np.zeros(number, dtype=bool)
    exact[same.ravel()] = True
    pairs = np.concatenate([same, *near])
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (number, number))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component)
    numbers = np.cumsum(sizes > 1) * (sizes > 1)
    return Duplicates(numbers[component], exact)


def _small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    picture = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def _standardised(images: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _pairs(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image beside the first with the same key, where that is another one."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    places = np.arange(len(keys))
    twice = np.nonzero(first[inverse] != places)[0]
    return np.stack([first[inverse[twice]], twice], 1)
