"""What a data set consists of before any image is decoded: files, labels and splits."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lqf.data.catalogue import SPLITS, Split

if TYPE_CHECKING:
    from lqf.data.published import Published, SplitRule


class WrongListing(ValueError):
    """The files are not those that the catalogue describes; the message names the class."""


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        path: Where it is, relative to the folder of images, with ``/``; or where it comes from.
        label: Index into the classes.
        split: The split it belongs to, or None before it is drawn.
    """

    path: str
    label: int
    split: Split | None


@dataclass(frozen=True)
class Listing:
    """All images of a data set.

    Attributes:
        classes: Class names.
        entries: The images.
        found: Images that were there, dropped and unlisted ones included.
        left_out: Why images were left out -> how many.
    """

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    found: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def draw(listing: Listing, rule: SplitRule, source: Split | None, target: Split) -> Listing:
    """Move images into another split.

    The order of the draw is that of sha256(seed/path), so it depends on nothing but names.

    By the rule per_class all but `train` images of every class are moved from `source` to `target`, by
    fraction about `test` of every class, and at least one. With a group, files that share it move together.
    """
    pool = [entry for entry in listing.entries if entry.split == source]
    numbers = Counter(entry.label for entry in pool)
    wanted = {
        label: number - rule.train
        if rule.rule == "per_class"
        else max(1, round(rule.test * number))
        for label, number in numbers.items()
    }
    groups: dict[str, list[Entry]] = {}
    for entry in pool:
        groups.setdefault(_group(entry.path, rule.group), []).append(entry)
    taken: Counter[int] = Counter()
    moved: set[str] = set()
    for key in sorted(
        groups, key=lambda key: hashlib.sha256(f"{rule.seed}/{key}".encode()).digest()
    ):
        labels = Counter(entry.label for entry in groups[key])
        # A group goes where its most frequent class still has room.
        first = min(labels, key=lambda label: (-labels[label], label))
        if taken[first] < wanted[first]:
            taken.update(labels)
            moved.update(entry.path for entry in groups[key])
    entries = tuple(
        replace(entry, split=target) if entry.path in moved else entry for entry in listing.entries
    )
    return replace(listing, entries=entries)


def assign(listing: Listing, dataset: Published) -> Listing:
    """Give every image its split: official or drawn, then the validation images.

    Raises:
        WrongListing: If the numbers are not those of the catalogue.
    """
    if dataset.split.rule != "official":
        listing = draw(listing, dataset.split, None, "test")
        rest = (replace(one, split=one.split or "train") for one in listing.entries)
        listing = replace(listing, entries=tuple(rest))
    check_numbers(listing, dataset)
    if dataset.validation is not None:
        listing = draw(listing, dataset.validation, "train", "val")
    return checked(listing, dataset.name)


def check_numbers(listing: Listing, dataset: Published) -> None:
    """Compare the numbers of images with the catalogue.

    Raises:
        WrongListing: If one differs; the message names the class if it can.
    """
    name = dataset.name

    def compare(number: int, low: int, high: int, whose: str, where: str = "") -> None:
        if not low <= number <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise WrongListing(f"{whose} {number} images{where}, but the catalogue says {wanted}.")

    if len(listing.classes) != dataset.classes:
        raise WrongListing(
            f"data set {name!r} has {len(listing.classes)} classes, but the catalogue says "
            f"{dataset.classes}."
        )
    gap = dataset.missing
    counts = Counter((entry.split, entry.label) for entry in listing.entries)
    for split, allowed in dataset.per_class.items():
        for label, one in enumerate(listing.classes):
            low, high = (allowed[one],) * 2 if isinstance(allowed, Mapping) else allowed
            whose = f"class {one!r} of data set {name!r} has"
            compare(counts[split, label], low - gap, high, whose, f" in split {split!r}")
    totals = Counter(listing.classes[entry.label] for entry in listing.entries)
    for one, total in dataset.class_totals.items():
        compare(totals[one], total, total, f"class {one!r} of data set {name!r} has")
    for split, wanted in dataset.images.items():
        if wanted is not None:
            number = sum(count for (other, _), count in counts.items() if other == split)
            where = f" in split {split!r} (classes {_spread(counts, split, listing.classes)})"
            compare(number, wanted - gap, wanted, f"data set {name!r} has", where)
    if dataset.found is not None:
        whose = f"the archives of data set {name!r} hold"
        compare(listing.found, dataset.found - gap, dataset.found, whose)


def check_filled(classes: Sequence[str], entries: Iterable[Entry], name: str) -> None:
    """Refuse a data set with a class that has no image in a split.

    Raises:
        WrongListing: If a class is empty somewhere.
    """
    counts = Counter((entry.split, entry.label) for entry in entries)
    for split in SPLITS:
        for label, class_name in enumerate(classes):
            if not counts[split, label]:
                raise WrongListing(
                    f"class {class_name!r} of data set {name!r} has no image in split {split!r}: "
                    "every class needs at least one in each; add images of it, or leave it out."
                )


def checked(listing: Listing, name: str) -> Listing:
    """Refuse images with an empty class, or a file that is listed twice.

    Raises:
        WrongListing: If a class is empty somewhere, or a file appears twice.
    """
    check_filled(listing.classes, listing.entries, name)
    path, number = Counter(entry.path for entry in listing.entries).most_common(1)[0]
    if number > 1:
        raise WrongListing(f"data set {name!r} lists {path!r} more than once: keep it once.")
    return listing


def class_names(keys: Sequence[str], display: Callable[[str], str]) -> tuple[str, ...]:
    """Make names of classes readable, if they stay distinct; else they are the keys themselves."""
    names = tuple(display(key) for key in keys)
    return names if len(set(names)) == len(names) and all(names) else tuple(keys)


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """Sort images: by split, then by name."""
    rank = {split: number for number, split in enumerate(SPLITS)}
    return sorted(entries, key=lambda one: (rank[one.split or "train"], one.label, one.path))


def _group(path: str, pattern: str | None) -> str:
    found = re.match(pattern, path.rsplit("/", 1)[-1]) if pattern is not None else None
    return found[1] if found else path


def _spread(counts: Counter[tuple[Split | None, int]], split: Split, names: Sequence[str]) -> str:
    per_class = sorted((counts[split, label], name) for label, name in enumerate(names))
    (low, least), (high, most) = per_class[0], per_class[-1]
    return f"from {low}, {least!r}, to {high}, {most!r}"
