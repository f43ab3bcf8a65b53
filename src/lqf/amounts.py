"""Whether there are the images that a configuration asks for; the user's data sets are listed for it.

Read while a workflow is being planned, so it imports neither torch nor Pillow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lqf.data import catalogue, own
from lqf.data.listing import Listing


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
        listing, root = own.list_own(name, own.OwnData.read(config["own"][name]))
    except ValueError as problem:
        yield f"config key 'own.{name}' cannot be used: {problem}"
        return
    listings[name] = listing
    prepared = Path(config.get("data_folder") or "data", config["scale"], name, "images.npy")
    if not prepared.is_file():
        yield from own.problems(listing, root)


def training_images(dataset: str, listings: Mapping[str, Listing]) -> tuple[int, int, int] | None:
    """Count training images before anything is prepared.

    Args:
        dataset: Name of a data set.
        listings: Images of the user's data sets.

    Returns:
        Classes, training images of the smallest one, and of all; None if they are not known.
    """
    if dataset in listings:
        listing = listings[dataset]
        numbers = Counter(one.label for one in listing.entries if one.split == "train")
        return len(listing.classes), min(numbers.values()), numbers.total()
    spec = catalogue.DEMO.get(dataset)
    available = spec.per_class["train"] if spec is not None else None
    if spec is None or available is None:
        return None
    return len(spec.classes), available, available * len(spec.classes)


def size_problems(
    config: Mapping[str, Any],
    where: str,
    section: Mapping[str, Any],
    dataset: str,
    classes: int,
    available: int,
    images: int,
) -> Iterator[str]:
    """Tell where an experiment asks for more images than there are.

    Args:
        config: The merged configuration.
        where: Key of the experiment, for messages.
        section: The experiment.
        dataset: Name of the data set.
        classes: Its classes.
        available: Training images of its smallest class.
        images: All of its training images.

    Yields:
        One sentence a problem.
    """
    arriving = section.get("steps", 0) * section.get("per_step", 0)
    if arriving > images:
        yield (
            f"config key '{where}' asks for {section['steps']} steps of {section['per_step']} "
            f"samples, but {dataset!r} has only {images} training images: "
            "lower steps or per_step."
        )
    per_class = config["train_per_class"] or available
    if per_class > available:
        yield (
            f"config key 'train_per_class' is {per_class}, but {dataset!r} (named in "
            f"'{where}') has only {available} training images of a class: lower it, or set null."
        )
    for position, shots in enumerate(section.get("shots", [])):
        if shots > available:
            yield (
                f"config key '{where}.shots[{position}]' is {shots}, but {dataset!r} has only "
                f"{available} training images of a class."
            )
    total = classes * per_class if config["train_per_class"] else images
    if max(section.get("removals", [0])) >= total:
        yield (
            f"config key '{where}.removals' ends with {max(section['removals'])}, but {dataset!r} "
            f"has only {total} training images in use: leave at least one of them."
        )
