"""What is wrong with a configuration, one sentence a problem: shapes first, then what names and sizes mean.

Read while a workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lqf import amounts, backbones, method
from lqf.config_keys import IMPLIED, Keys, points, schema
from lqf.data import catalogue
from lqf.data.listing import Listing
from lqf.data.published import Published
from lqf.report import rules

# What the other methods of an experiment are compared with.
_REFERENCES = {
    "comparison": ("nlft",),
    "ablation": ("lqf",),
    "kshot": ("nlft", "lqf"),
    "regularized": ("nlft", "lqf_exact"),
}
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping of keys",
    "string_type": "text",
}
_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "finite",
}


def problems(config: Mapping[str, Any], published: Mapping[str, Published]) -> list[str]:
    """Find what is wrong with a merged configuration: one sentence a problem.

    What names and sizes mean is looked at once every shape is right.
    """
    try:
        Keys.model_validate(config)
    except ValidationError as refused:
        errors = sorted(refused.errors(include_url=False), key=lambda one: [*map(str, one["loc"])])
        return [*dict.fromkeys(_sentence(config, error) for error in errors)]
    return list(_meaning_problems(config, published))


def _nearest(value: object, allowed: Iterable[str]) -> str:
    """Returns what is allowed, the closest match first."""
    names = list(allowed)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed are {', '.join(names)}"


def _unknown(where: str, value: object, why: str, allowed: Iterable[str]) -> str:
    return f"config key '{where}' is {value!r}, {why}: {_nearest(value, allowed)}."


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(parts: Iterable[str | int]) -> list[str]:
    """Returns the keys that exist at a place of the configuration."""
    whole = schema()
    node: Any = whole
    for part in parts:
        # The names of own data sets and of further methods follow a pattern.
        named = node.get("properties", {}).get(part) or [
            *node.get("patternProperties", {}).values()
        ]
        node = node["items"] if isinstance(part, int) else named
        node = node[0] if isinstance(node, list) else node
        node = next((one for one in node.get("anyOf", []) if one != {"type": "null"}), node)
        if "$ref" in node:
            node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node["properties"])


def _sentence(config: Mapping[str, Any], error: Any) -> str:
    kind, parts, value = error["type"], list(error["loc"]), error["input"]
    if parts and parts[-1] == "[key]":
        parts, value = parts[:-2], parts[-2]
    # A choice of types adds the type's name to the place.
    if parts[-1:] in (["str"], ["int"]):
        parts.pop()
    where, context = _path(parts), error.get("ctx", {})
    prefix = f"config key '{where}' is {value!r}, " if where else "the configuration "
    if kind in {"extra_forbidden", "invalid_key"}:
        return f"config key '{where}' does not exist: {_nearest(parts[-1], _keys_at(parts[:-1]))}."
    if kind == "missing":
        return f"config key '{where}' is missing."
    if kind == "value_error":
        return f"config key '{where}' is an impossible point: {context['error']}"
    if kind == "literal_error":
        choices = re.findall("'([^']*)'", context["expected"])
        return f"{prefix}which is not a choice: {_nearest(value, choices)}."
    if kind in {"unique", "rising", "shots"}:
        return f"{prefix}{error['msg']}."
    if kind == "string_pattern_mismatch":
        return f"{prefix}but allowed are small letters, digits and _, a letter first."
    if kind in {"too_short", "string_too_short"}:
        least = context["min_length"]
        return f"{prefix}but must not be {'empty' if least == 1 else f'shorter than {least}'}."
    if kind == "too_long":
        return f"{prefix}but must not be longer than {context['max_length']}."
    if kind in _BOUNDS:
        return f"{prefix}but must be {_BOUNDS[kind].format(**context)}."
    return f"{prefix}which is not {_KINDS[kind]}{_number_hint(value, kind)}."


def _number_hint(value: object, kind: str) -> str:
    """Returns how to write a number that YAML 1.1 reads as text, such as 1e-4."""
    if isinstance(value, str) and kind in {"float_type", "int_type"}:
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
    listings: dict[str, Listing] = {}
    for name in config.get("own") or {}:
        yield from amounts.own_problems(config, name, listings, taken=[*catalogue.DEMO, *published])
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
    for reference in _REFERENCES.get(name, ()):
        if reference not in section["methods"]:
            yield (
                f"config key '{where}.methods' is {section['methods']!r}, but must contain "
                f"{reference!r}, which others are compared with."
            )
