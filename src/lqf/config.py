"""The workflow's configuration: merged, checked before any job starts, cut into what a job needs.

Everything here runs while the workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from lqf import amounts, backbones, method
from lqf.data import catalogue
from lqf.data.listing import Listing
from lqf.data.published import Published
from lqf.report import rules

Config = dict[str, Any]

SWEEPS = ("comparison", "ablation", "fine_grained")
"""Experiments whose runs are train jobs; one job serves all of them that ask for it."""

PAPER: dict[str, str] = {
    "caltech256": "Caltech-256",
    "chest_xray": "Chest X-Ray",
    "malaria": "Malaria",
    "mit67": "MIT-67",
    "oxford_pets": "Oxford Pets",
    "stanford_dogs": "Stanford Dogs",
    "flowers102": "Oxford Flowers-102",
    "cub200_2011": "CUB-200-2011",
    "cub200_2010": "CUB-200 (2010)",
    "fgvc_aircraft": "FGVC Aircraft",
    "stanford_cars": "Stanford Cars",
}
"""The paper's data sets: name -> title."""

# What the other methods of an experiment are compared with.
_REFERENCES = {"comparison": ("nlft",), "ablation": ("lqf",), "kshot": ("nlft", "lqf")}
# What is trained by the experiments that name no method.
IMPLIED = {"spectrum": "nlft", "informativeness": "lqf_exact"}
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping of keys",
    "string": "text",
}

# Experiments that decide themselves how many training images they use.
_OWN_SIZES = ("kshot", "online")


class ConfigError(ValueError):
    """The configuration cannot be run; the message has one sentence a problem."""


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> Config:
    """Lay one configuration over another as Snakemake does.

    Args:
        base: The configuration underneath.
        overlay: Its mappings are merged key by key; everything else, lists too, is replaced.

    Returns:
        A new configuration.
    """
    merged = dict(base)
    for key, value in overlay.items():
        if isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def load(*paths: str | Path) -> Config:
    """Read configuration files, each laid over the ones before.

    Args:
        paths: YAML files.

    Returns:
        The merged configuration, unchecked.

    Raises:
        ConfigError: If a file is missing or is not a mapping.
    """
    config: Config = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"configuration file {path} does not exist.") from None
        if not isinstance(content, Mapping):
            raise ConfigError(f"configuration file {path} must hold a mapping of keys.")
        config = merge(config, content)
    return config


def resolve(
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    published: Mapping[str, Published] | None = None,
) -> Config:
    """Check a configuration and fill in what it leaves to defaults.

    Args:
        config: The merged configuration.
        schema: The JSON schema of `workflow/schemas/config.schema.yaml`.
        published: The catalogue's data sets, whose sizes are then checked, too.

    Returns:
        A new configuration: experiments that are null or not the only one wanted are gone, the
        others name their seeds.

    Raises:
        ConfigError: If anything is wrong; one line and one sentence for each problem.
    """
    problems = list(_shape_problems(config, schema))
    problems = problems or list(_meaning_problems(config, published or {}))
    if problems:
        raise ConfigError("\n".join(problems))
    resolved = json.loads(json.dumps(config))
    resolved["experiments"] = {
        name: {"seeds": resolved["seeds"], **section}
        for name, section in resolved["experiments"].items()
        if section is not None and name == (resolved.get("only") or name)
    }
    resolved.setdefault("methods", {})
    resolved.setdefault("own", {})
    resolved.setdefault("data_folder", None)
    resolved.setdefault("archives_folder", None)
    resolved.setdefault("seeds_together", False)
    resolved.setdefault("device", "auto")
    resolved.setdefault("checkpoint_seconds", 600)
    return resolved


def points(config: Mapping[str, Any]) -> dict[str, method.Method]:
    """List the methods that a configuration may name.

    Args:
        config: The configuration; its key `methods` adds to the paper's named points.

    Returns:
        Name -> the five choices.
    """
    further = config.get("methods") or {}
    return {
        **method.METHODS,
        **{name: method.Method(**choices) for name, choices in further.items()},
    }


def runs(config: Mapping[str, Any], experiments: Iterable[str]) -> list[tuple[str, str, int]]:
    """List the runs of some experiments that share a kind of job, each once.

    Args:
        config: A resolved configuration.
        experiments: Their names; those that are dropped are passed over.

    Returns:
        Data set, method and seed of every run, sorted.
    """
    found: set[tuple[str, str, int]] = set()
    for name in experiments:
        if (section := config["experiments"].get(name)) is not None:
            datasets = section.get("datasets") or [section["dataset"]]
            for dataset in datasets:
                for one in section["methods"]:
                    found.update((dataset, one, seed) for seed in section["seeds"])
    return sorted(found)


def job_settings(
    config: Mapping[str, Any], *, method_name: str | None = None, experiment: str | None = None
) -> str:
    """Cut out what one training job depends on, so that nothing else makes it run again.

    Args:
        config: A resolved configuration.
        method_name: The method that the job trains; None for jobs that belong to no method.
        experiment: The experiment that the job belongs to; None for plain training.

    Returns:
        JSON with sorted keys: scale, image_size, target_scale, train_per_class, backbone, compute, and
        `method`, `training` and `experiment` where the job has them.
    """
    shared = ["scale", "image_size", "target_scale", "backbone", "compute"]
    if experiment not in _OWN_SIZES:
        shared.append("train_per_class")
    settings: dict[str, Any] = {key: config[key] for key in shared if key in config}
    sections = set(config["training"])
    if method_name is not None:
        point = points(config)[method_name]
        settings["method"] = {
            key: getattr(point, key)
            for key in ("trained", "loss", "activation", "optimizer", "pooling")
        }
        sections = {point.training}
    settings["training"] = {key: config["training"][key] for key in sorted(sections)}
    if experiment is not None:
        # What else is run, and what is shown of it, does not concern this run.
        settings["experiment"] = {
            key: value
            for key, value in config["experiments"][experiment].items()
            if key not in {"dataset", "datasets", "methods", "seeds", "shown"}
        }
    return dumps(settings)


def dumps(settings: Mapping[str, Any]) -> str:
    """Write settings so that equal ones are equal text.

    Args:
        settings: A mapping of plain values.

    Returns:
        JSON on one line with sorted keys.
    """
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


def _nearest(value: object, allowed: Iterable[str]) -> str:
    """Returns what is allowed, the closest match first."""
    names = list(allowed)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed are {', '.join(names)}"


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shape_problems(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the schema refuses: unknown and missing keys, wrong types, values out of range."""
    validator = jsonschema.Draft202012Validator(schema)
    for error in sorted(
        validator.iter_errors(config), key=lambda error: list(map(str, error.path))
    ):
        yield from _sentences(error)


def _sentences(error: jsonschema.ValidationError) -> Iterator[str]:
    where = _path(error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    prefix = f"config key '{where}' is {value!r}, " if where else "the configuration "
    if error.validator == "additionalProperties":
        allowed = schema["properties"]
        for key in value:
            if key not in allowed:
                full = _path([*error.absolute_path, key])
                yield f"config key '{full}' does not exist: {_nearest(key, allowed)}."
    elif error.validator == "required":
        for key in rule:
            if key not in value:
                yield f"config key '{_path([*error.absolute_path, key])}' is missing."
    elif error.validator == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        wanted = " or ".join(_TYPES[kind] for kind in kinds)
        yield f"{prefix}which is not {wanted}{_number_hint(value, kinds)}."
    elif error.validator == "enum":
        yield f"{prefix}which is not a choice: {_nearest(value, rule)}."
    elif error.validator == "pattern":
        yield f"{prefix}but allowed are small letters, digits and _, a letter first."
    elif error.validator in {"minItems", "minLength"}:
        yield f"{prefix}but must not be {'empty' if rule == 1 else f'shorter than {rule}'}."
    elif error.validator == "maxItems":
        yield f"{prefix}but must not be longer than {rule}."
    elif error.validator == "uniqueItems":
        yield f"{prefix}but must not name anything twice."
    else:
        bound = {
            "minimum": "at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }
        yield f"{prefix}but must be {bound.get(str(error.validator), error.validator)} {rule}."


def _number_hint(value: object, kinds: Iterable[str]) -> str:
    """Returns how to write a number that YAML 1.1 reads as text, such as 1e-4."""
    if isinstance(value, str) and {"number", "integer"} & set(kinds):
        try:
            return f" (write {float(value):e}: YAML needs the point and the sign of the exponent)"
        except ValueError:
            pass
    return ""


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
    for solver in ("pcg", "closed_form"):
        if config["training"].get(solver, {}).get("augment"):
            yield (
                f"config key 'training.{solver}.augment' is true, but an exact solution belongs to a "
                "fixed set of images: set it to false."
            )
    listings: dict[str, Listing] = {}
    for name in config.get("own") or {}:
        yield from amounts.own_problems(config, name, listings, taken=[*catalogue.names(), *PAPER])
    known = [*catalogue.names(), *PAPER, *(config.get("own") or {})]
    for position, name in enumerate(config["datasets"]):
        if name not in known:
            yield f"config key 'datasets[{position}]' is {name!r}, not a data set: " + (
                f"{_nearest(name, known)}."
            )
    yield from backbones.problems(config["backbone"], config["image_size"])
    pretrain = config["backbone"]["pretrain"]
    if pretrain is not None and pretrain["dataset"] not in known:
        yield (
            f"config key 'backbone.pretrain.dataset' is {pretrain['dataset']!r}, not a data set: "
            f"{_nearest(pretrain['dataset'], known)}."
        )
    for name, choices in (config.get("methods") or {}).items():
        if name in method.METHODS:
            yield f"config key 'methods.{name}' redefines a method of the paper: choose another name."
        try:
            method.Method(**choices)
        except method.ImpossibleMethod as problem:
            yield f"config key 'methods.{name}' is an impossible point: {problem}"
            return
    run = [name for name, section in config["experiments"].items() if section is not None]
    if (only := config.get("only")) is not None and only not in run:
        yield f"config key 'only' is {only!r}, not an experiment: {_nearest(only, run)}."
    for name, section in config["experiments"].items():
        if section is not None:
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
            yield (
                f"config key '{where}.{key}' is {dataset!r}, which is not listed under 'datasets': "
                f"{_nearest(dataset, config['datasets'])}."
            )
        else:
            training = amounts.training_images(dataset, listings, published)
            if training is not None:
                yield from amounts.size_problems(config, where, section, dataset, training)
    known, network = points(config), config["backbone"]["network"]
    if (implied := IMPLIED.get(name)) and known[implied].training not in config["training"]:
        yield f"config key '{where}' needs the key 'training.{known[implied].training}'."
    for position, one in enumerate(section.get("methods", [])):
        if one not in known:
            yield (
                f"config key '{where}.methods[{position}]' is {one!r}, not a method: "
                f"{_nearest(one, known)}."
            )
        elif known[one].training not in config["training"]:
            yield (
                f"config key '{where}.methods[{position}]' is {one!r}, which needs the key "
                f"'training.{known[one].training}'."
            )
        elif known[one].pooling == "covariance" and not backbones.gives_maps(network):
            yield (
                f"config key '{where}.methods[{position}]' is {one!r}, which pools a feature map by "
                f"covariance, but the head of {network!r} sees no map: leave the method out, or take "
                "another network (a ResNet, say)."
            )
    for reference in _REFERENCES.get(name, ()):
        if reference not in section["methods"]:
            yield (
                f"config key '{where}.methods' is {section['methods']!r}, but must contain "
                f"{reference!r}, which others are compared with."
            )
    removals = section.get("removals", [0])
    if removals[0] != 0 or removals != sorted(removals):
        yield f"config key '{where}.removals' is {removals!r}, but must start at 0 and rise."
