"""What a result was made from: hashes of settings, data, weights and method, kept beside it.

Read while results are aggregated, so it does not import torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

VERSION = 3
"""Version of what jobs compute: raised by a change after which one configuration gives other numbers.

States of jobs and aggregation go by it, so that a comment changed elsewhere throws nothing away."""

RECORD = "run.json"

# What must be the same in all runs of an experiment, or in those with the same data set or method.
_SHARED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("version", "versions of the method", ()),
    ("torch", "versions of torch", ()),
    ("device", "kinds of processor", ()),
    ("data", "states of the data set", ("dataset",)),
    ("settings", "settings", ("method",)),
    ("weights", "pre-trained weights", ("method", "seed")),
)


class WrongRecord(ValueError):
    """A result is not what its job wrote, or is not made as those beside it."""


def digest(*parts: str | Path) -> str:
    """A hash of texts and of the content of files: the first half of the SHA-256 in hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open(part, "rb") as handle:
                one = hashlib.file_digest(handle, "sha256")
        else:
            one = hashlib.sha256(part.encode())
        total.update(one.digest())
    return total.hexdigest()[:32]


def made_from(
    settings: Mapping[str, Any], data: Path, weights: Path, device: str
) -> dict[str, Any]:
    """What the numbers of a job depend on.

    Args:
        settings: the job's resolved settings.
        data: folder of the prepared data set, whose index names the hash of every image.
        weights: file of the pre-trained weights.
        device: kind of processor, as torch names it.

    Returns:
        Hashes and versions by name.
    """
    return {
        "settings": digest(json.dumps(settings, sort_keys=True)),
        "data": digest(data / "index.csv"),
        "weights": digest(weights),
        "version": VERSION,
        "torch": importlib.metadata.version("torch"),
        "device": device,
    }


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of plain values, and its `hash`."""
    return {**record, "hash": digest(json.dumps(record, sort_keys=True))}


def unsealed(path: Path) -> dict[str, Any] | None:
    """Read a JSON file that was sealed, without its hash; None if it is not what was written.

    One that was written without a hash has nothing to be compared with.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        said = found.pop("hash", None)
    except (ValueError, TypeError, AttributeError):
        return None
    return found if said in (None, sealed(found)["hash"]) else None


def read(path: Path) -> dict[str, Any]:
    """Read what a result was made from, and check that it is still what its job wrote.

    Args:
        path: a file that a job wrote, with `RECORD` beside it.

    Returns:
        What `made_from` gave, and the `processor`, which is no part of it: a job may go on elsewhere.

    Raises:
        WrongRecord: if the record is missing or damaged, or the file has another hash.
    """
    again = "delete it and run its job again"
    record = path.with_name(RECORD)
    try:
        found = json.loads(record.read_text("utf-8"))
        made, written = found["made_from"], found["files"][path.name]
        made = {**made, "processor": found["processor"]}
        sound = found.pop("hash") == sealed(found)["hash"]
    except FileNotFoundError:
        raise WrongRecord(f"{record} does not exist beside {path.name}; {again}.") from None
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise WrongRecord(f"{record} is damaged; {again}.")
    if digest(path) != written:
        raise WrongRecord(f"{path} is damaged or was edited: its hash is another; {again}.")
    return made


def refuse_mixtures(runs: Iterable[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Refuse runs that must not be compared: file, data set, method and seed, what it was made from.

    Raises:
        WrongRecord: if two runs differ in what they must share; names both files.
    """
    first: dict[tuple[Any, ...], tuple[Path, Any]] = {}
    for path, about, made in runs:
        for key, title, within in _SHARED:
            place = (key, *(about.get(name) for name in within))
            other, value = first.setdefault(place, (path, made.get(key)))
            if value != made.get(key):
                raise WrongRecord(
                    f"{path} and {other} come from different {title} ({made.get(key)} and {value}), so "
                    "they must not be compared: delete the older one and run its job again."
                )
