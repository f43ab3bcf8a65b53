"""Read YAML files, and say what is wrong with one or with a key of it in one sentence each."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


class BadDocument(ValueError):
    """A file that is not the YAML that it should be; the message names the file and the line."""


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


def problems(refused: ValidationError, called: str, *kinds: Any) -> str:
    """Say what is wrong with keys that a dataclass of pydantic has refused.

    Args:
        refused: What pydantic found.
        called: How the keys are called, as ``catalogue key``.
        kinds: The dataclasses, whose fields are the keys that exist.

    Returns:
        A line and a sentence for each key.
    """
    known = [field.name for kind in kinds for field in dataclasses.fields(kind)]

    def sentence(error: Any) -> str:
        # A choice of types puts their names between the keys.
        keys = [str(one) for one in error["loc"] if "[" not in str(one)]
        where = f"{called} '{'.'.join(keys)}'" if keys else f"the {called}s"
        if error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            close = difflib.get_close_matches(keys[-1], known, n=1)
            return f"{where} does not exist{f': did you mean {close[0]!r}?' if close else '.'}"
        if error["type"] == "missing":
            return f"{where} is missing."
        told = error["msg"].removeprefix("Value error, ")
        if not keys:
            return f"{where} do not fit: {told}."
        return f"{where} is {reprlib.repr(error['input'])}: {told[0].lower()}{told[1:]}."

    errors = refused.errors(include_url=False)
    return "\n".join(dict.fromkeys(sentence(one) for one in errors))
