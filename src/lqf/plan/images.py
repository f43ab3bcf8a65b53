"""How many images a data set has, before or after it is prepared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lqf.data import catalogue
from lqf.data.catalogue import SPLITS, DatasetSpec
from lqf.data.listing import Listing
from lqf.data.published import Catalogue, Published

#: Images of scikit-learn's digits, the one data set of the demo that is not rendered.
_DIGITS = 1797


@dataclass(frozen=True)
class Images:
    """Numbers of images of each split, and of classes C."""

    train: int
    val: int
    test: int
    classes: int

    @property
    def total(self) -> int:
        """Images of all splits."""
        return self.train + self.val + self.test

    def of_each_class(self, number: int | None) -> Images:
        """The same with at most so many training images a class; None takes all."""
        most = self.train if number is None else number * self.classes
        return replace(self, train=min(self.train, most))


def images_of(
    name: str, folder: Path, published: Catalogue, own: Listing | None = None
) -> Images | None:
    """Count the images of a data set; None if there is no such one.

    Args:
        name: Its name.
        folder: Its prepared form, if that is there: then the numbers are those of the files.
        published: The catalogue; its splits of a drawn share are rounded, and the rest may hold
            images of a class that is dropped.
        own: The images of a data set of the user; they go before what was prepared of them earlier.
    """
    if own is not None:
        counts = Counter(entry.split for entry in own.entries)
        return Images(counts["train"], counts["val"], counts["test"], len(own.classes))
    about = folder / "dataset.json"
    if about.is_file():
        content = json.loads(about.read_text("utf-8"))
        train, val, test = (content["images"][split] for split in SPLITS)
        return Images(train, val, test, len(content["classes"]))
    if name in catalogue.DEMO:
        return _rendered(catalogue.DEMO[name])
    return _published(published.datasets[name]) if name in published.datasets else None


def _rendered(spec: DatasetSpec) -> Images:
    classes = len(spec.classes)
    numbers = {s: n * classes for s in SPLITS if (n := spec.per_class[s]) is not None}
    for split in SPLITS:
        numbers.setdefault(split, _DIGITS - sum(numbers.values()))
    return Images(numbers["train"], numbers["val"], numbers["test"], classes)


def _published(dataset: Published) -> Images:
    numbers: Mapping[str, int | None] = {str(key): n for key, n in dataset.images.items()}
    train, val, test = numbers["train"], numbers.get("val") or 0, numbers["test"]
    total = dataset.found or sum(dataset.class_totals.values())
    if test is None:
        test = round(dataset.split.test * total) if train is None else total - train
    if train is None:
        train = total - test
    if dataset.validation is not None:
        val = round(dataset.validation.test * train)
        train -= val
    return Images(train, val, test, dataset.classes)
