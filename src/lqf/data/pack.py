"""Decode the images of a listing into one array on disk, with all cores and constant memory.

Rows are written straight to their place in images.npy, so neither this process nor a worker ever
holds more than one batch of images, and the result does not depend on which worker was first.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lqf.data.decode import Undecodable, decode
from lqf.devices import usable_cores
from lqf.orphans import end_with

# Below this many images the start of further processes costs more than they save.
_WORTH_WORKERS = 256
_BATCH = 32


class UndecodableFile(ValueError):
    """A listed file cannot be decoded; the message names it."""


def pack(
    root: Path,
    paths: Sequence[str],
    target: Path,
    size: int,
    *,
    cut_bottom: int = 0,
    workers: int | None = None,
    name: str = "",
    progress: bool = True,
) -> tuple[list[str], list[str]]:
    """Write the array.

    Args:
        root: Folder that the paths are relative to.
        paths: Image files, N, in the order of the rows.
        target: The array to write: uint8, N × S × S × 3.
        size: Height and width, S.
        cut_bottom: Rows to cut off the bottom of every stored image.
        workers: Processes; None takes every core that this process may use.
        name: What the progress bar calls it.
        progress: Whether there is a progress bar.

    Returns:
        sha256 of every file, N, and the paths of those that end early.

    Raises:
        UndecodableFile: If a file cannot be read or decoded.
    """
    shape = (len(paths), size, size, 3)
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    decoded = partial(_decode_batch, root, target, array.offset, size, cut_bottom)
    del array
    batches = [(row, list(paths[row : row + _BATCH])) for row in range(0, len(paths), _BATCH)]
    digests, early = [], []
    with tqdm(total=len(paths), desc=name, unit="image", disable=not progress) as bar:
        for (_, batch), results in zip(batches, _results(decoded, batches, workers), strict=True):
            for path, (digest, truncated) in zip(batch, results, strict=True):
                digests.append(digest)
                if truncated:
                    early.append(path)
            bar.update(len(batch))
    return digests, early


_Batch = tuple[int, list[str]]
_Result = list[tuple[str, bool]]


def _results(
    decoded: Callable[[_Batch], _Result], batches: Sequence[_Batch], workers: int | None
) -> Iterator[_Result]:
    workers = workers or usable_cores()
    if workers == 1 or _BATCH * len(batches) < _WORTH_WORKERS:
        yield from map(decoded, batches)
        return
    # Started afresh, a worker shares no thread or lock with whoever calls this.
    context = multiprocessing.get_context("spawn")
    # A worker whose parent was killed would wait for work for ever.
    with ProcessPoolExecutor(workers, context, end_with, (os.getpid(),)) as pool:
        try:
            yield from pool.map(decoded, batches, chunksize=4)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _decode_batch(
    root: Path, target: Path, offset: int, size: int, cut_bottom: int, batch: _Batch
) -> _Result:
    first, paths = batch
    results = []
    with target.open("r+b") as array:
        array.seek(offset + first * 3 * size * size)
        for path in paths:
            try:
                data = Path(root, path).read_bytes()
                image = decode(data, size, cut_bottom)
            except OSError as error:
                raise UndecodableFile(
                    f"{path} cannot be read ({error.strerror}), but was there when the images were listed: "
                    "leave the images as they are while they are prepared, and run again."
                ) from None
            except Undecodable as error:
                raise UndecodableFile(
                    f"{path} cannot be decoded: {error}; get the file again, or remove it from the "
                    "data set."
                ) from None
            array.write(image.pixels.tobytes())
            results.append((hashlib.sha256(data).hexdigest(), image.truncated))
    return results
