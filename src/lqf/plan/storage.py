"""What is downloaded, and what lies on the disk afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lqf.data.published import File, Published
from lqf.plan.images import Images

_SWAP = (
    ", or set backbone.weights.leaky_relu: swap, which puts the leaky ReLU into the ReLU's weights and takes "
    "new statistics of batch norm (a deviation from the paper, which the report declares)"
)


@dataclass(frozen=True)
class Fetched:
    """One thing that is downloaded: its bytes as far as known, and files whose size is not.

    Besides, a sentence for what may have to be put in place by hand, and parts with a single address.
    """

    name: str
    bytes: int
    unknown: tuple[str, ...]
    by_hand: tuple[str, ...]
    single: tuple[str, ...] = ()


def of_dataset(dataset: Published, folder: str) -> Fetched:
    """What the best choice of each part of a data set with an address takes.

    `folder` is where its archives may be put.
    """
    files = [file for part in dataset.parts for file in dataset.choice(part)]
    sentences = []
    for part, choices in dataset.parts.items():
        if any(all(file.urls and not file.caution for file in choice) for choice in choices):
            continue
        reasons = [f"{file.name}: {_reason(file)}" for choice in choices for file in choice]
        wanted = " or ".join(" and ".join(file.name for file in choice) for choice in choices)
        sentences.append(
            f"{dataset.name}, {part}: {'; '.join(reasons)}. If the download fails, put {wanted} into "
            f"{folder}/{dataset.name} or into a folder that LQF_DATA names."
        )
    single = tuple(
        part
        for part, choices in dataset.parts.items()
        if max(len(file.urls) for choice in choices for file in choice) == 1
        and sum(all(file.urls for file in choice) for choice in choices) == 1
    )
    return Fetched(dataset.name, *_sizes(files), tuple(sentences), single)


def of_weights(name: str, file: File | None, folder: str, *, leaky: bool = False) -> Fetched:
    """What published weights NETWORK.SOURCE take; file is None where only torchvision knows it.

    Those for the leaky ReLU may be put into other weights instead.
    """
    if file is None:
        return Fetched(name, 0, (name,), ())
    sentence = (
        f"{name}: {file.name}: {_reason(file)}. If the download fails, put it into {folder}/{name} or "
        f"into a folder that LQF_DATA names{_SWAP if leaky else ''}."
    )
    surely = file.urls and not file.caution
    return Fetched(name, *_sizes([file]), () if surely else (sentence,))


def _sizes(files: Iterable[File]) -> tuple[int, tuple[str, ...]]:
    files = list(files)
    known = sum(file.bytes or 0 for file in files)
    return known, tuple(file.name for file in files if file.bytes is None)


def _reason(file: File) -> str:
    if file.caution:
        return file.caution
    return f"no address any more ({'; '.join(file.dead.values())})" if not file.urls else "has one"


def packed_bytes(images: Mapping[str, Images], side: int) -> int:
    """Size of the prepared data sets of side S: N · S² · 3 bytes over all of them."""
    return sum(one.total for one in images.values()) * side * side * 3


def unpacking_bytes(datasets: Iterable[Published]) -> int:
    """Most bytes that one data set may expand to while it is prepared, which are freed afterwards."""
    return max(
        (
            sum(file.unpacked or 0 for part in one.parts for file in one.choice(part))
            for one in datasets
        ),
        default=0,
    )
