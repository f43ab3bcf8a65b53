"""How often training sends an image through the network, from the configuration alone.

The formulas follow `lqf.experiments`: what a job does to each image is counted there as it is here.
Small problems hold their Jacobian in memory and pass less often than this says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from operator import add
from typing import Any

from lqf import config as settings
from lqf.amounts import Images
from lqf.config_keys import IMPLIED
from lqf.method import Method

#: Informativeness: orders in which samples are removed, how many of them score the samples again, what
#: part of the samples leaves before that, and gradients of a validation image.
_ORDERS, _ITERATED, _ROUND, _PROBES = 5, 2, 0.05, 8
#: Active learning: orders in which images are learned.
_CHOOSING = 3

#: Experiments whose number of passes is a bound: they stop when they have learned or converged, and
#: small problems are solved in memory.
BOUNDED = ("online", "informativeness", "spectrum", "summary", "active")


@dataclass(frozen=True)
class Passes:
    """What is done to single images.

    Attributes:
        training: Passes forward and back (with tangents, where the network is linearised).
        evaluation: Passes forward alone (with tangents, where the network is linearised).
        setup: Images that a problem is set up with: outputs or features, and curvature. Heads with
            augmentation need new features in each epoch.
        problems: How often something is set up.
        features: Passes over stored features, where only the head is trained; not through the network.
    """

    training: int = 0
    evaluation: int = 0
    setup: int = 0
    problems: int = 0
    features: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Work:
    """All passes of the jobs of a rule that train one method."""

    rule: str
    method: str
    passes: Passes


def of(config: Mapping[str, Any], images: Mapping[str, Images]) -> list[Work]:
    """Count the passes of every rule and method; jobs on data sets without images are not counted."""
    found: dict[tuple[str, str], Passes] = {}
    for rule, name, passes in _jobs(config, images):
        found[rule, name] = found.get((rule, name), Passes()) + passes
    return [Work(*key, passes) for key, passes in found.items()]


def _jobs(
    config: Mapping[str, Any], images: Mapping[str, Images]
) -> Iterator[tuple[str, str, Passes]]:
    """Yields rule, method and passes of each data set, method and seed."""
    points = settings.points(config)
    all_of = {name: one.of_each_class(config["train_per_class"]) for name, one in images.items()}
    for dataset, name, _ in settings.runs(config, settings.SWEEPS):
        if dataset in images:
            yield "train", name, _grid(config, points[name], all_of[dataset])
    experiments = config["experiments"]
    for rule in settings.OWN_RUNS:
        for dataset, name, _ in settings.runs(config, [rule]):
            if dataset not in images:
                continue
            section, method = experiments[rule], points[name]
            if rule == "elr":
                grid = {**config["training"][method.training], "epochs": section["epochs"]}
                fits = len(section["rates"]) * len(section["batches"])
                yield rule, name, _fits(method, all_of[dataset], fits, grid)
            elif rule in ("kshot", "regularized"):
                # Wrong labels come with the most images.
                noisy = section["shots"][-1:] * len(section.get("noise", [0])[1:])
                for shots in section["shots"] + noisy:
                    drawn = images[dataset].of_each_class(None if shots == "all" else shots)
                    yield rule, name, _grid(config, method, drawn)
            elif rule in ("summary", "active"):
                own = images[dataset].of_each_class(
                    section["images"] // images[dataset].classes or 1
                )
                if rule == "active":
                    yield rule, name, _active(config, method, own, section)
                    continue
                # What leaves is scored again on the way, and five orders have a model a share.
                rounds = {"removals": [own.train] * len(section["keep"])}
                yield rule, name, _analysis(config, method, own, rounds)
            else:
                yield rule, name, _online(config, method, images[dataset])
    for rule in ("spectrum", "informativeness"):
        section = experiments.get(rule)
        if section is not None and section["dataset"] in images:
            name = IMPLIED[rule]
            here = all_of[section["dataset"]]
            for _ in section["seeds"]:
                yield rule, name, _analysis(config, points[name], here, section)


def _grid(config: Mapping[str, Any], method: Method, images: Images) -> Passes:
    grid = config["training"][method.training]
    lengths = (len(grid.get(key, [0])) for key in ("weight_decays", "rates", "dampings"))
    fits = math.prod(lengths)
    if method.trained == "all":
        fits *= len(grid["batch_norm"])
    return _fits(method, images, fits, grid)


def _fits(method: Method, images: Images, fits: int, grid: Mapping[str, Any]) -> Passes:
    """Some grid points on one problem."""
    epochs = grid.get("epochs", grid.get("max_passes", 1))
    training, unseen = fits * epochs * images.train, images.val + images.test
    if method.trained == "head":
        # Without augmentation every image becomes features once; what follows does not touch the network.
        views = training if grid.get("augment") else 0
        return Passes(setup=images.total + views, problems=1, features=training)
    if method.trained == "all":
        # The training loss before and after, then the errors.
        return Passes(training, fits * (2 * images.train + images.total))
    return Passes(training, unseen + fits * images.total, images.train, 1)


def _online(config: Mapping[str, Any], method: Method, images: Images) -> Passes:
    """At most: every fit takes all its epochs, each followed by the training error."""
    section = config["experiments"]["online"]
    steps, epochs = section["steps"], section["max_epochs"]
    arrived = section["per_step"] * steps * (steps + 1) // 2
    fits = 2 * arrived * epochs  # from the last solution, and from w0
    whole = Images(section["per_step"] * steps, images.val, images.test, images.classes)
    if method.trained == "head":
        views = fits if config["training"][method.training].get("augment") else 0
        return Passes(setup=whole.total + views, problems=1, features=fits)
    evaluation = fits + 2 * arrived + 2 * steps * (images.val + images.test)
    if method.optimizer == "kfac_sgd":
        # Anew each time that the data doubled.
        return Passes(fits, evaluation, 2 * whole.train, steps.bit_length())
    return Passes(fits, evaluation) + _grid(config, method, whole)


def _active(
    config: Mapping[str, Any], method: Method, images: Images, section: Mapping[str, Any]
) -> Passes:
    """At most: a gradient for each output of what is left where variance chooses, and every step all its passes."""
    steps, classes = section["steps"], images.classes
    learned = [(section["start"] + step) * classes for step in range(steps + 1)]
    left = sum(images.train - count for count in learned[:-1])
    longest = config["training"][method.training]["max_passes"]
    steps_of = Passes(
        left * classes + _CHOOSING * longest * sum(learned[1:]),
        left + _CHOOSING * steps * images.test,
    )
    fitted = [learned[0], *_CHOOSING * learned[-1:]]
    fits = [_grid(config, method, Images(count, 0, images.test, classes)) for count in fitted]
    return sum(fits, steps_of)


def _analysis(
    config: Mapping[str, Any], method: Method, images: Images, section: Mapping[str, Any]
) -> Passes:
    grid = _grid(config, method, images)
    if "removals" not in section:
        # The Gram matrix before and after, column by column.
        return grid + Passes(2 * section["samples"] ** 2 * images.classes)
    # A backward pass for each output, then models without some of the samples.
    rows = images.train * images.classes + images.val * min(_PROBES, images.classes)
    rounds = math.ceil(max(section["removals"]) / max(1, round(_ROUND * images.train)))
    removed = _ORDERS * len(section["removals"])
    models = removed + _ITERATED * rounds
    again = models * config["training"][method.training]["max_passes"] * images.train
    return grid + Passes(rows + again, removed * images.test)
