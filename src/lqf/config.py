"""The workflow's configuration: merged, checked before any job starts, cut into what a job needs.

Everything here runs while the workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice, product
from pathlib import Path
from typing import Any

from lqf import config_problems, documents
from lqf.config_keys import Keys, points
from lqf.data.published import Published

Config = dict[str, Any]

SWEEPS = ("comparison", "ablation", "fine_grained")
"""Experiments whose runs are train jobs; one job serves all of them that ask for it."""

OWN_RUNS = ("elr", "kshot", "online", "regularized", "summary", "active")
"""Experiments with a job of their own for each data set, method and seed."""

# Experiments that decide themselves how many training images they use.
_OWN_SIZES = OWN_RUNS[1:]


class ConfigError(ValueError):
    """The configuration cannot be run; the message has one sentence a problem."""


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> Config:
    """Lay one configuration over another as Snakemake does.

    Mappings are merged key by key; everything else, lists too, is replaced.
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
    """Read YAML files, each laid over the ones before; the result is unchecked.

    Raises:
        ConfigError: If a file is missing or is not a mapping.
    """
    config: Config = {}
    for path in paths:
        try:
            content = documents.read(path)
        except FileNotFoundError:
            raise ConfigError(f"configuration file {path} does not exist.") from None
        except documents.BadDocument as error:
            raise ConfigError(f"configuration file {error}") from None
        if not isinstance(content, Mapping):
            raise ConfigError(f"configuration file {path} must hold a mapping of keys.")
        config = merge(config, _plain(content, f"configuration file {path}"))
    return config


# Copy what JSON can hold; dates, which YAML sees in text without quotes, are text again.
def _plain(config: Mapping[str, Any], called: str) -> Config:
    # Aliases of lists of aliases are more than any memory once they are written out: no more than a million parts.
    written = islice(json.JSONEncoder(default=str).iterencode(config), 10**6)
    try:
        plain: Config = json.loads("".join(written))
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(
            f"{called} contains itself by an alias, is nested hundreds of levels deep, holds hundreds of thousands "
            "of values, or has a key that is neither text nor a number: write it without."
        ) from None
    return plain


def resolve(config: Mapping[str, Any], published: Mapping[str, Published] | None = None) -> Config:
    """Check a configuration and fill in what it leaves to defaults.

    The sizes of `published` data sets, the catalogue's, are checked as well.

    Returns:
        A new configuration: experiments that are null or not the only one wanted are gone, the
        others name their seeds.

    Raises:
        ConfigError: If anything is wrong; one line and one sentence for each problem.
    """
    config = _expanded(config)
    if problems := list(config_problems.problems(config, published or {})):
        raise ConfigError("\n".join(problems))
    resolved = json.loads(json.dumps(config))
    for name, field in Keys.model_fields.items():
        resolved.setdefault(name, field.get_default(call_default_factory=True))
    resolved["experiments"] = {
        name: {"seeds": resolved["seeds"], **section}
        for name, section in resolved["experiments"].items()
        if section is not None and name == (resolved["only"] or name)
    }
    if section := resolved["experiments"].get("leave_one_out"):
        section["rows_of"] = {
            kind: {
                **other,
                "methods": [one for one in other["methods"] if one in section["methods"]],
            }
            for kind, name in config_problems.ROWS_OF.items()
            if (other := resolved["experiments"].get(name))
        }
        section["seeds"] = sorted({s for one in section["rows_of"].values() for s in one["seeds"]})
    if resolved["only"]:
        section = resolved["experiments"][resolved["only"]]
        resolved["datasets"] = section.get("datasets") or [section["dataset"]]
    return resolved


# Fill in the environment variables that paths of data and weights name.
def _expanded(config: Mapping[str, Any]) -> Config:
    filled = _plain(config, "the configuration")
    places = [(f"own.{name}", own) for name, own in (filled.get("own") or {}).items()]
    places.append(("backbone.weights", (filled.get("backbone") or {}).get("weights")))
    for where, section in places:
        for key, value in section.items() if isinstance(section, dict) else ():
            if key in ("folder", "index", "root", "relu", "leaky_relu") and isinstance(value, str):
                section[key] = os.path.expanduser(os.path.expandvars(value))
                if "$" in section[key] and value == section[key] and value.startswith("$"):
                    raise ConfigError(
                        f"config key '{where}.{key}' is {value!r}, but that environment variable is not "
                        "set: set it, or write the path."
                    )
    return filled


def runs(config: Mapping[str, Any], experiments: Iterable[str]) -> list[tuple[str, str, int]]:
    """List data set, method and seed of the runs of some experiments, each once, sorted.

    Experiments that are dropped are passed over.
    """
    found: set[tuple[str, str, int]] = set()
    for name in experiments:
        if (section := config["experiments"].get(name)) is not None:
            datasets = section.get("datasets") or [section["dataset"]]
            found.update(product(datasets, section["methods"], section["seeds"]))
    return sorted(found)


def job_settings(
    config: Mapping[str, Any], *, method_name: str | None = None, experiment: str | None = None
) -> str:
    """Cut out what one training job depends on, so that nothing else makes it run again.

    The job trains a method, or belongs to none, and to an experiment, unless it is plain training.

    Returns:
        JSON with sorted keys: scale, image_size, target_scale, train_per_class, backbone, compute, and
        `method`, `training` and `experiment` where the job has them.
    """
    shared = ["scale", "image_size", "target_scale", "backbone", "compute"]
    if config.get("classes") is not None:
        shared.append("classes")
    if experiment not in _OWN_SIZES:
        shared.append("train_per_class")
    settings: dict[str, Any] = {key: config[key] for key in shared if key in config}
    sections = set(config["training"])
    if method_name is not None:
        point = points(config)[method_name]
        # What a method goes without is no part of it: its jobs do not depend on what else there could be.
        choices = asdict(point).items()
        settings["method"] = {key: choice for key, choice in choices if choice != "none"}
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


def dumps(settings: Any) -> str:
    """Write settings so that equal ones are equal text: JSON on one line with sorted keys."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)
