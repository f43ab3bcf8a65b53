"""What is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from lqf.data.published import File, Published, Weights

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


def fetched(one: Published | Weights, folder: str, *, leaky: bool = False) -> Fetched:
    """What the best choice of each part with an address takes.

    `folder` is where archives may be put; weights for the leaky ReLU may be put into others instead.
    """
    sentences, single = [], []
    for part, choices in one.parts.items():
        surely = [all(file.urls and not file.caution for file in choice) for choice in choices]
        if not any(surely):
            reasons = [f"{file.name}: {_reason(file)}" for choice in choices for file in choice]
            wanted = " or ".join(" and ".join(file.name for file in choice) for choice in choices)
            sentences.append(
                f"{one.name}, {part}: {'; '.join(reasons)}. If the download fails, put {wanted} into "
                f"{folder}/{one.name} or into a folder that LQF_DATA names{_SWAP if leaky else ''}."
            )
        addresses = [len(file.urls) for choice in choices for file in choice]
        alive = sum(all(file.urls for file in choice) for choice in choices)
        if isinstance(one, Published) and max(addresses) == alive == 1:
            single.append(part)
    unknown = tuple(file.name for file in one.best if file.bytes is None)
    return Fetched(one.name, one.download_bytes, unknown, tuple(sentences), tuple(single))


def _reason(file: File) -> str:
    if file.caution:
        return file.caution
    return f"no address any more ({'; '.join(file.dead.values())})" if not file.urls else "has one"
