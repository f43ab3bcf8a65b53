"""Whether there are the images that a configuration asks for.

The user's data sets are listed for it; those of the paper have numbers in the catalogue.

Read while a workflow is being planned, so it imports neither torch nor Pillow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lqf.config_sections import OwnKeys
from lqf.data import catalogue, own
from lqf.data.listing import Listing
from lqf.data.published import Published


@dataclass(frozen=True)
class Training:
    """Training images of a data set.

    Attributes:
        classes: C.
        smallest: Images of the smallest class.
        images: N.
        exact: Whether these are the numbers, or bounds from above.
    """

    classes: int
    smallest: int
    images: int
    exact: bool = True

    @property
    def only(self) -> str:
        """How a sentence begins that says how few they are."""
        return "only" if self.exact else "at most"


def own_problems(
    config: Mapping[str, Any], name: str, listings: dict[str, Listing], taken: Sequence[str]
) -> Iterator[str]:
    """Tell what is wrong with a data set of the user.

    Args:
        config: The merged configuration.
        name: A key of `own`.
        listings: Gets the images of the data set under its name, if they can be listed.
        taken: Names that data sets have already.

    Yields:
        One sentence a problem.
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
    """Count training images before anything is prepared.

    Args:
        dataset: Name of a data set.
        listings: Images of the user's data sets.
        published: The catalogue's data sets.

    Returns:
        The numbers, or None if they are not known.
    """
    if dataset in listings:
        listing = listings[dataset]
        numbers = Counter(one.label for one in listing.entries if one.split == "train")
        return Training(len(listing.classes), min(numbers.values()), numbers.total())
    if dataset in published:
        return _bounds(published[dataset])
    spec = catalogue.DEMO.get(dataset)
    available = spec.per_class["train"] if spec is not None else None
    if spec is None or available is None:
        return None
    return Training(len(spec.classes), available, available * len(spec.classes))


def _bounds(dataset: Published) -> Training:
    """A drawn split takes its fraction of each class, in whole images; an official one is counted."""
    images: float | None = dataset.images.get("train")
    if images is None:
        found = dataset.found or sum(dataset.class_totals.values())
        images = found * (1 - dataset.split.test) + dataset.classes / 2
    if dataset.validation is not None:
        images = images * (1 - dataset.validation.test) + dataset.classes / 2
    most = math.floor(images)
    return Training(dataset.classes, most // dataset.classes, most, exact=False)


def size_problems(
    config: Mapping[str, Any],
    where: str,
    section: Mapping[str, Any],
    dataset: str,
    training: Training,
) -> Iterator[str]:
    """Tell where an experiment asks for more images than there are.

    Args:
        config: The merged configuration.
        where: Key of the experiment, for messages.
        section: The experiment.
        dataset: Name of the data set.
        training: Its training images.

    Yields:
        One sentence a problem.
    """
    arriving = section.get("steps", 0) * section.get("per_step", 0)
    only, available = training.only, training.smallest
    if arriving > training.images:
        yield (
            f"config key '{where}' asks for {section['steps']} steps of {section['per_step']} "
            f"samples, but {dataset!r} has {only} {training.images} training images: "
            "lower steps or per_step."
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
