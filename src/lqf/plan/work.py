"""How often training sends an image through the network, from the configuration alone.

The formulas follow `lqf.experiments`: what a job does to each image is counted there as it is here.
Small problems hold their Jacobian in memory and pass less often than this says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lqf import config as settings
from lqf.method import Method
from lqf.plan.images import Images

#: Curvature: one pass over the training images for the Kronecker factors, one for their eigenvalues.
CURVATURE = 2

#: Orders in which informativeness removes samples.
_ORDERS = 5

#: Experiments whose number of passes is a bound: they stop when they have learned enough.
BOUNDED = ("online",)


@dataclass(frozen=True)
class Work:
    """Passes of single images through the network, of all jobs of a rule that train one method.

    Attributes:
        rule: The rule.
        method: The method.
        training: Passes forward and back (with tangents, where the network is linearised).
        evaluation: Passes forward alone (with tangents, where the network is linearised).
    """

    rule: str
    method: str
    training: int
    evaluation: int


def of(config: Mapping[str, Any], images: Mapping[str, Images]) -> list[Work]:
    """Count the passes of every rule and method.

    Args:
        config: A resolved configuration.
        images: Data set -> its numbers of images; jobs on other data sets are not counted.

    Returns:
        One item for each rule and method.
    """
    training: Counter[tuple[str, str]] = Counter()
    evaluation: Counter[tuple[str, str]] = Counter()
    for rule, name, passes, forward in _jobs(config, images):
        training[rule, name] += passes
        evaluation[rule, name] += forward
    return [Work(*key, training[key], evaluation[key]) for key in training]


def _jobs(
    config: Mapping[str, Any], images: Mapping[str, Images]
) -> Iterator[tuple[str, str, int, int]]:
    """Yields rule, method, training and evaluation passes of each data set, method and seed."""
    points = settings.points(config)
    all_of = {name: one.of_each_class(config["train_per_class"]) for name, one in images.items()}
    for dataset, name, _ in settings.runs(config, settings.SWEEPS):
        if dataset in images:
            yield "train", name, *_grid(config, points[name], all_of[dataset])
    experiments = config["experiments"]
    for rule in ("elr", "kshot", "online"):
        for dataset, name, _ in settings.runs(config, [rule]):
            if dataset not in images:
                continue
            section, method = experiments[rule], points[name]
            if rule == "elr":
                fits = len(section["rates"]) * len(section["batches"])
                yield rule, name, *_fits(method, all_of[dataset], fits, section["epochs"])
            elif rule == "kshot":
                for shots in section["shots"]:
                    drawn = images[dataset].of_each_class(shots)
                    yield rule, name, *_grid(config, method, drawn)
            else:
                yield rule, name, *_online(config, method, images[dataset])
    for rule in ("spectrum", "informativeness"):
        section = experiments.get(rule)
        if section is not None and section["dataset"] in images:
            name = settings.IMPLIED[rule]
            here = all_of[section["dataset"]]
            for _ in section["seeds"]:
                yield rule, name, *_analysis(config, points[name], here, section)


def _grid(config: Mapping[str, Any], method: Method, images: Images) -> tuple[int, int]:
    grid = config["training"][method.training]
    fits = len(grid["weight_decays"]) * len(grid.get("rates", [0]))
    if method.trained == "all":
        fits *= len(grid["batch_norm"])
    return _fits(method, images, fits, grid.get("epochs", grid.get("max_passes", 1)))


def _fits(method: Method, images: Images, fits: int, epochs: int) -> tuple[int, int]:
    """Training and evaluation passes of some grid points on one problem."""
    if method.trained == "head":
        # Every image becomes features once; what follows does not touch the network.
        return 0, images.total
    if method.trained == "all":
        # The training loss before and after, then the errors.
        return fits * epochs * images.train, fits * (2 * images.train + images.total)
    curvature = 0 if method.optimizer == "sgd" else CURVATURE * images.train
    return fits * epochs * images.train + curvature, (1 + fits) * images.total


def _online(config: Mapping[str, Any], method: Method, images: Images) -> tuple[int, int]:
    """At most: every fit takes all its epochs, each followed by the training error."""
    section = config["experiments"]["online"]
    steps, epochs = section["steps"], section["max_epochs"]
    arrived = section["per_step"] * steps * (steps + 1) // 2
    fits = 2 * arrived * epochs  # from the last solution, and from w0
    if method.trained == "head":
        return 0, images.total
    training, evaluation = fits, fits + 2 * arrived + 2 * steps * (images.val + images.test)
    if method.optimizer == "kfac_sgd":
        # Anew each time that the data doubled.
        return training + 2 * CURVATURE * section["per_step"] * steps, evaluation
    whole = Images(section["per_step"] * steps, images.val, images.test, images.classes)
    searched = _grid(config, method, whole)
    return training + searched[0], evaluation + searched[1]


def _analysis(
    config: Mapping[str, Any], method: Method, images: Images, section: Mapping[str, Any]
) -> tuple[int, int]:
    if "removals" not in section:
        training, evaluation = _grid(config, method, images)
        # The Jacobian of the samples before and after: a backward pass for each output.
        return training + 2 * section["samples"] * images.classes, evaluation
    rows = (images.train + images.val) * images.classes
    return (
        rows + CURVATURE * images.train,
        _ORDERS * len(section["removals"]) * images.test,
    )
