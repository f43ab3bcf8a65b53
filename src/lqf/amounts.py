"""How many images a data set has, before or after it is prepared, and whether they are enough.

The user's data sets are listed for it; those of the paper have numbers in the catalogue.

Read while a workflow is being planned, so it imports neither torch nor Pillow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lqf.config_sections import OwnKeys
from lqf.data import catalogue, own
from lqf.data.catalogue import SPLITS, DatasetSpec
from lqf.data.listing import Listing
from lqf.data.published import Published

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
    name: str, folder: Path, published: Mapping[str, Published], listing: Listing | None = None
) -> Images | None:
    """Count the images of a data set; None if there is no such one.

    Args:
        name: Its name.
        folder: Its prepared form, if that is there: then the numbers are those of the files.
        published: The catalogue's data sets; splits of a drawn share are rounded, and the rest may hold
            images of a class that is dropped.
        listing: The images of a data set of the user; they go before what was prepared of them earlier.
    """
    if listing is not None:
        counts = Counter(entry.split for entry in listing.entries)
        return Images(counts["train"], counts["val"], counts["test"], len(listing.classes))
    about = folder / "dataset.json"
    if about.is_file():
        content = json.loads(about.read_text("utf-8"))
        train, val, test = (content["images"][split] for split in SPLITS)
        return Images(train, val, test, len(content["classes"]))
    if name in catalogue.DEMO:
        return _rendered(catalogue.DEMO[name])
    return _published(published[name]) if name in published else None


def _rendered(spec: DatasetSpec) -> Images:
    classes = len(spec.classes)
    numbers = {s: n * classes for s in SPLITS if (n := spec.per_class[s]) is not None}
    for split in SPLITS:
        numbers.setdefault(split, _DIGITS - sum(numbers.values()))
    return Images(numbers["train"], numbers["val"], numbers["test"], classes)


def _published(dataset: Published) -> Images:
    train, test = dataset.images["train"], dataset.images["test"]
    val = dataset.images.get("val") or 0
    total = dataset.found or sum(dataset.class_totals.values())
    if test is None:
        test = round(dataset.split.test * total) if train is None else total - train
    if train is None:
        train = total - test
    if dataset.validation is not None:
        val = round(dataset.validation.test * train)
        train -= val
    return Images(train, val, test, dataset.classes)


@dataclass(frozen=True)
class Training:
    """Training images of a data set: classes C, images of the smallest class, and N.

    They are `exact`, or bounds from above.
    """

    classes: int
    smallest: int
    images: int
    exact: bool = True


def own_problems(
    config: Mapping[str, Any], name: str, listings: dict[str, Listing], taken: Sequence[str]
) -> Iterator[str]:
    """Tell what is wrong with a data set of the user: one sentence a problem.

    Args:
        config: The merged configuration.
        name: A key of `own`.
        listings: Gets the images of the data set under its name, if they can be listed.
        taken: Names that data sets have already.
    """
    if name in taken:
        yield f"config key 'own.{name}' has the name of a data set that exists: choose another one."
        return
    try:
        listing, root = own.list_own(name, OwnKeys(**config["own"][name]))
    except ValueError as problem:
        yield f"config key 'own.{name}' cannot be used: {problem}"
        return
    listings[name] = listing
    prepared = Path(config.get("data_folder") or "data", config["scale"], name, "images.npy")
    if not prepared.is_file():
        yield from own.problems(listing, root)


def training_images(
    dataset: str, listings: Mapping[str, Listing], published: Mapping[str, Published]
) -> Training | None:
    """Count the training images of a data set before anything is prepared, where that can be known.

    `listings` has the images of the user's data sets, `published` the catalogue.
    """
    if dataset in listings:
        listing = listings[dataset]
        numbers = Counter(one.label for one in listing.entries if one.split == "train")
        return Training(len(listing.classes), min(numbers.values()), numbers.total())
    if dataset in published:
        one = published[dataset]
        # A drawn split takes its fraction of each class, in whole images.
        draws = (one.images["train"] is None) + (one.validation is not None)
        most = _published(one).train + draws * one.classes // 2
        return Training(one.classes, most // one.classes, most, exact=False)
    spec = catalogue.DEMO.get(dataset)
    available = spec.per_class["train"] if spec is not None else None
    if spec is None or available is None:
        return None
    return Training(len(spec.classes), available, available * len(spec.classes))


def size_problems(
    config: Mapping[str, Any],
    where: str,
    section: Mapping[str, Any],
    dataset: str,
    training: Training,
) -> Iterator[str]:
    """Tell where an experiment, whose key is `where`, asks for more images than there are."""
    arriving = section.get("steps", 0) * section.get("per_step", 0)
    only, available = "only" if training.exact else "at most", training.smallest
    if arriving > training.images:
        yield (
            f"config key '{where}' asks for {section['steps']} steps of {section['per_step']} "
            f"samples, but {dataset!r} has {only} {training.images} training images: "
            "lower steps or per_step."
        )
    classes = min(training.classes, config.get("classes") or training.classes)
    labelled = (section.get("start", 0) + section.get("steps", 0)) * classes
    if "start" in section and labelled > (asked := min(section["images"], training.images)):
        yield (
            f"config key '{where}' starts with {section['start']} images a class and learns one more in each of "
            f"{section['steps']} steps, {labelled} of {dataset!r} in all, which are more than {asked}: raise "
            "images, or lower start or steps."
        )
    for position, shots in enumerate(section.get("shots", [])):
        if shots != "all" and shots > available:
            yield (
                f"config key '{where}.shots[{position}]' is {shots}, but {dataset!r} has {only} "
                f"{available} training images of {'a' if training.exact else 'its smallest'} class."
            )
    total = training.images
    if most := config["train_per_class"]:
        total = min(total, training.classes * most)
    if max(section.get("removals", [0])) >= total:
        yield (
            f"config key '{where}.removals' ends with {max(section['removals'])}, but {dataset!r} "
            f"has {only} {total} training images in use: leave at least one of them."
        )
