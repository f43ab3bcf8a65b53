"""Which images are the same: file by file, pixel by pixel, or nearly so (mirrored, re-encoded)."""

from __future__ import annotations

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


def find_duplicates(photos: Photos) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Compare every image with every other and its mirror image.

    Returns:
        The number of its group of images that are the same or nearly, from 1, by image, 0 for an image
        that is alone, M; and whether another file of the group has the same bytes, M.
    """
    small = np.stack([_small(image) for image in photos.pixels])
    flat = small.std((1, 2, 3)) < _FLAT
    rows, mirrored = (_standardised(one, flat) for one in (small, small[:, :, ::-1]))
    _, first, inverse, copies = np.unique(
        photos.hashes, return_index=True, return_inverse=True, return_counts=True
    )
    number = len(photos)
    pairs = [np.stack([first[inverse], np.arange(number)], 1)]
    for start in range(0, number, 512):
        part = rows[start : start + 512]
        likeness = np.maximum(part @ rows.T, part @ mirrored.T)
        pairs.append(np.argwhere(likeness >= NEAR) + np.array([start, 0]))
    places = np.concatenate(pairs)
    graph = coo_matrix((np.ones(len(places)), (places[:, 0], places[:, 1])), (number, number))
    component = connected_components(graph, directed=False)[1]
    several = np.bincount(component) > 1
    return (np.cumsum(several) * several)[component], copies[inverse] > 1


def _small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    picture = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def _standardised(images: NDArray[np.float32], flat: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Rows of mean 0 and norm 1; of flat images 0, which are like no other."""
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    rows[flat] = 0
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
