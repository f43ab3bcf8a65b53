"""What is wrong with a configuration, one sentence a problem: shapes first, then what names and sizes mean.

Read while a workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lqf import amounts, backbones, documents, method
from lqf.config_keys import IMPLIED, Keys, points
from lqf.data import catalogue
from lqf.data.listing import Listing
from lqf.data.published import Published
from lqf.nearest import nearest
from lqf.report import rules

# What the other methods of an experiment are compared with.
_REFERENCES = {
    "comparison": ("nlft",),
    "ablation": ("lqf",),
    "kshot": ("nlft", "lqf"),
    "regularized": ("nlft", "lqf_exact"),
}

#: Kinds of jobs whose rows ``leave_one_out`` reads, and the experiments that they belong to.
ROWS_OF = {"train": "comparison", "kshot": "kshot"}


def problems(config: Mapping[str, Any], published: Mapping[str, Published]) -> list[str]:
    """Find what is wrong with a merged configuration: one sentence a problem.

    What names and sizes mean is looked at once every shape is right.
    """
    try:
        documents.validated(Keys, config, "config key")
    except documents.WrongKeys as wrong:
        return str(wrong).split("\n")
    return list(_meaning_problems(config, published))


def _unknown(where: str, value: object, why: str, allowed: Iterable[str]) -> str:
    return f"config key '{where}' is {value!r}, {why}: {nearest(value, allowed)}"


def _meaning_problems(
    config: Mapping[str, Any], published: Mapping[str, Published]
) -> Iterator[str]:
    """Yields what only the names can tell: data sets, methods, sizes that do not fit each other."""
    folder = config.get("data_folder")
    if folder is not None and not Path(folder).is_dir():
        yield (
            f"config key 'data_folder' is {folder!r}, a folder that does not exist: create it, or "
            "set null to keep the data in ./data."
        )
    stored, seen = config.get("stored_size"), config["image_size"]
    if stored is not None and stored < seen:
        yield (
            f"config key 'stored_size' is {stored}, but images of 'image_size' {seen} are cut out of "
            f"what is stored: set it to at least {seen}, or null."
        )
    listings: dict[str, Listing] = {}
    for name in config.get("own") or {}:
        yield from amounts.own_problems(config, name, listings, taken=[*catalogue.DEMO, *published])
    titles = [keys.get("title") or name for name, keys in (config.get("own") or {}).items()]
    for title in sorted({one for one in titles if titles.count(one) > 1}):
        yield f"config key 'own' has the title {title!r} twice: figures would draw both as one; change one of them."
    known = [*catalogue.DEMO, *published, *(config.get("own") or {})]
    for position, name in enumerate(config["datasets"]):
        if name not in known:
            yield _unknown(f"datasets[{position}]", name, "not a data set", known)
    yield from backbones.problems(config["backbone"], config["image_size"])
    pretrain = config["backbone"]["pretrain"]
    if pretrain is not None and pretrain["dataset"] not in known:
        yield _unknown("backbone.pretrain.dataset", pretrain["dataset"], "not a data set", known)
    for name in config.get("methods") or {}:
        if name in method.METHODS:
            yield f"config key 'methods.{name}' redefines a method of the paper: choose another name."
    run = [name for name, section in config["experiments"].items() if section is not None]
    if (only := config.get("only")) is not None and only not in run:
        yield _unknown("only", only, "not an experiment", run)
    for name, section in config["experiments"].items():
        if section is not None and name == (only or name):
            yield from _experiment_problems(config, name, section, listings, published)
    for position, claim in enumerate(config["claims"]):
        try:
            rules.check(claim)
        except rules.BadClaim as problem:
            yield f"config key 'claims[{position}]' cannot be tested: {problem}"
    identifiers = [claim["id"] for claim in config["claims"]]
    for identifier in sorted({one for one in identifiers if identifiers.count(one) > 1}):
        yield f"config key 'claims' has {identifier!r} twice, but an id must be unique."


def _experiment_problems(
    config: Mapping[str, Any],
    name: str,
    section: Mapping[str, Any],
    listings: Mapping[str, Listing],
    published: Mapping[str, Published],
) -> Iterator[str]:
    where = f"experiments.{name}"
    single = [("dataset", section["dataset"])] if "dataset" in section else []
    listed = [(f"datasets[{i}]", one) for i, one in enumerate(section.get("datasets", []))]
    for key, dataset in [*single, *listed]:
        if dataset not in config["datasets"]:
            why = "which is not listed under 'datasets'"
            yield _unknown(f"{where}.{key}", dataset, why, config["datasets"])
        elif (training := amounts.training_images(dataset, listings, published)) is not None:
            yield from amounts.size_problems(config, where, section, dataset, training)
    known, network = points(config), config["backbone"]["network"]
    if (implied := IMPLIED.get(name)) and known[implied].training not in config["training"]:
        yield f"config key '{where}' needs the key 'training.{known[implied].training}'."
    for position, one in enumerate(section.get("methods", [])):
        key = f"{where}.methods[{position}]"
        if one not in known:
            yield _unknown(key, one, "not a method", known)
        elif (grid := known[one].training) not in config["training"]:
            yield f"config key '{key}' is {one!r}, which needs the key 'training.{grid}'."
        elif known[one].pooling == "covariance" and not backbones.gives_maps(network):
            yield (
                f"config key '{key}' is {one!r}, which pools a feature map by covariance, but the head of "
                f"{network!r} sees no map: leave the method out, or take another network (a ResNet, say)."
            )
    if name == "leave_one_out":
        read = [config["experiments"].get(one) for one in ROWS_OF.values()]
        trained = {method for one in read if one for method in one["methods"]}
        if config.get("only") or not trained & {*section["methods"]}:
            yield (
                f"config key '{where}' reads the rows of its methods in comparison and kshot, which are left out "
                "here: list one of its methods there, and set 'only' to null."
            )
    if name in ("leave_one_out", "summary", "active"):
        for one in section["methods"]:
            if one in known and not known[one].exact:
                yield f"config key '{where}.methods' has {one!r}, which is not solved exactly: leave it out."
    for reference in _REFERENCES.get(name, ()):
        if reference not in section["methods"]:
            yield (
                f"config key '{where}.methods' is {section['methods']!r}, but must contain "
                f"{reference!r}, which others are compared with."
            )
        elif len(section["methods"]) == 1:
            yield (
                f"config key '{where}.methods' is {section['methods']!r}, but must contain another method, "
                "which is compared with it."
            )
