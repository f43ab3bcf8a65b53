"""Read YAML files, and say what is wrong with one or with a key of it in one sentence each."""

from __future__ import annotations

import contextlib
import re
import reprlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from lqf.nearest import nearest

T = TypeVar("T")

NAME = "^[a-z][a-z0-9_]{0,99}$"
"""Pattern of names that are keys and folders at once."""


class BadDocument(ValueError):
    """A file that is not the YAML that it should be; the message names the file and the line."""


class WrongKeys(ValueError):
    """Keys that do not exist, are missing or do not fit; a line and a sentence for each."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values only, and no key twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key.value!r} is there already, in line {seen[key.value]}; remove one",
                    key.start_mark,
                )
            seen[key.value] = line
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def read(path: Path | str) -> Any:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        Its content: mappings, lists, text, numbers, truth values, null.

    Raises:
        FileNotFoundError: If there is none.
        BadDocument: If it is not YAML in UTF-8, holds more than plain values, or a key twice.
    """
    try:
        return yaml.load(Path(path).read_text("utf-8-sig"), _Loader)
    except UnicodeDecodeError as error:
        raise BadDocument(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise BadDocument(f"{path}{where}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        told = " ".join(str(error).split())
        raise BadDocument(f"{path} is not YAML: {told or type(error).__name__}.") from None
    except IsADirectoryError:
        raise BadDocument(f"{path} is a folder: name a YAML file.") from None


def validated(kind: type[T], content: Any, called: str) -> T:
    """Check keys and values by a class of pydantic.

    Args:
        kind: The class.
        content: What a file or an option holds.
        called: How its keys are called, as ``catalogue key``.

    Raises:
        WrongKeys: If keys do not exist, are missing or do not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as refused:
        errors = sorted(refused.errors(include_url=False), key=lambda one: [*map(str, one["loc"])])
        sentences = dict.fromkeys(_sentence(error, called, kind) for error in errors)
        raise WrongKeys("\n".join(sentences)) from None


def _sentence(error: Any, called: str, kind: type) -> str:
    parts, value, what = list(error["loc"]), error["input"], error["type"]
    if parts[-1:] == ["[key]"]:
        parts, value = parts[:-2], parts[-2]
    # A choice of types adds their names to the place.
    parts = [one for one in parts if one not in ("str", "int") and "[" not in str(one)]
    place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in parts)[1:]
    where = f"{called} {place!r}"
    if what in {"extra_forbidden", "unexpected_keyword_argument", "invalid_key"}:
        return f"{where} does not exist: {nearest(parts[-1], _keys_at(kind, parts[:-1]))}"
    if what == "missing":
        return f"{where} is missing."
    if what == "string_pattern_mismatch" and error["ctx"]["pattern"] == NAME:
        told = "allowed are up to 100 small letters, digits and _, a letter first"
    else:
        told = error["msg"].removeprefix("Value error, ").rstrip(".")
        told = re.sub("^(Input|String|List|Dictionary) should ", "it must ", told)
        told = re.sub("valid dictionary.*", "mapping of keys", told)
        told = re.sub(" after validation, not .*", "", told)
        told = f"{told[0].lower()}{told[1:]}"
    if not place:
        return f"the {called}s do not fit: {told}."
    return f"{where} is {reprlib.repr(value)}: {told}{_number_hint(value, what)}."


def _number_hint(value: object, what: str) -> str:
    """Returns how to write a number that YAML 1.1 reads as text, such as 1e-4."""
    if isinstance(value, str) and what in {"float_type", "int_type"}:
        with contextlib.suppress(ValueError):
            how = f"{float(value):e}: YAML needs the point and the sign of the exponent"
            return f" (write {how if 'e' in value.lower() else 'it without quotes'})"
    return ""


def _keys_at(kind: type, parts: Iterable[str | int]) -> list[str]:
    """Returns the keys that exist at a place."""
    node = whole = TypeAdapter(kind).json_schema()
    for part in parts:
        named = {**node.get("properties", {}), **node.get("patternProperties", {})}
        node = (
            node["items"]
            if isinstance(part, int)
            else named.get(part)
            or ([*node.get("patternProperties", {}).values(), node.get("additionalProperties")][0])
        )
        node = next((one for one in node.get("anyOf", []) if one != {"type": "null"}), node)
        if "$ref" in node:
            node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node["properties"])
