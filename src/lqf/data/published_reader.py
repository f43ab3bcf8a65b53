"""Read and check `config/datasets.yaml`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lqf.data.catalogue import DEMO, SPLITS
from lqf.data.published import Catalogue, CatalogueError, File, Published, SplitRule, Weights

_FILE = ("name", "bytes", "sha256", "md5", "unpacked", "urls", "move", "caution")
_SPLIT = {
    "official": ("rule",),
    "per_class": ("rule", "train", "seed", "group"),
    "fraction": ("rule", "test", "seed", "group"),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_HEXADECIMAL = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}


def default_path() -> Path:
    """Find the catalogue.

    Returns:
        The file that LQF_CATALOGUE names, else config/datasets.yaml under the current folder, else
        the one of the source tree that this package is installed from.
    """
    if named := os.environ.get("LQF_CATALOGUE"):
        return Path(named)
    here = Path("config", "datasets.yaml")
    return here if here.is_file() else Path(__file__).resolve().parents[3] / here


def read(path: Path | str | None = None) -> Catalogue:
    """Read the catalogue.

    Args:
        path: The YAML file; None finds it as `default_path` does.

    Returns:
        Its content.

    Raises:
        CatalogueError: If the file is missing or a key in it is wrong.
    """
    import yaml

    path = Path(path or default_path())
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue {path}: run in the folder that holds config/datasets.yaml, or "
            "name the file with --catalogue or LQF_CATALOGUE."
        ) from None
    except yaml.YAMLError as error:
        raise CatalogueError(f"the catalogue {path} is not YAML: {error}") from None
    top = _keys(content, "the catalogue", ("datasets", "weights"), ())
    datasets = {
        name: _published(name, entry) for name, entry in _mapping(top["datasets"], "datasets")
    }
    weights = {name: _weights(name, entry) for name, entry in _mapping(top["weights"], "weights")}
    return Catalogue(datasets, weights)


def _published(name: str, entry: Any) -> Published:
    where = f"datasets.{name}"
    if not _NAME.fullmatch(name) or name in DEMO:
        raise CatalogueError(
            f"catalogue key '{where}' is not a name for a data set: allowed are small letters, "
            "digits and _, a letter first, and none of the demo's names."
        )
    required = ("title", "group", "citation", "licence", "classes", "images", "layout", "split")
    given = _keys(
        entry,
        where,
        (*required, "take", "parts"),
        (
            *("paper", "home", "found", "per_class", "class_totals", "class_names", "validation"),
            *("junk", "drop", "cut_bottom", "notes"),
        ),
    )
    _choice(given["group"], f"{where}.group", ("coarse", "fine"))
    images = _keys(given["images"], f"{where}.images", ("train", "test"), ("val",))
    for split, number in images.items():
        _number(number, f"{where}.images.{split}", allow_none=True)
    names = tuple(given.get("class_names", ()))
    if names and len(names) != given["classes"]:
        raise CatalogueError(
            f"catalogue key '{where}.class_names' has {len(names)} names, but 'classes' is "
            f"{given['classes']}."
        )
    return Published(
        name=name,
        title=given["title"],
        paper=given.get("paper"),
        group=given["group"],
        home=given.get("home"),
        citation=given["citation"],
        licence=given["licence"],
        classes=_number(given["classes"], f"{where}.classes"),
        found=_number(given.get("found"), f"{where}.found", allow_none=True),
        images={split: images[split] for split in SPLITS if split in images},
        per_class={
            _choice(split, f"{where}.per_class", SPLITS): _range(
                value, f"{where}.per_class.{split}"
            )
            for split, value in _mapping(given.get("per_class", {}), f"{where}.per_class")
        },
        class_totals=dict(given.get("class_totals", {})),
        class_names=names,
        layout=given["layout"],
        split=_split(given["split"], f"{where}.split"),
        validation=_validation(given.get("validation"), f"{where}.validation"),
        take=tuple(given["take"]),
        junk=tuple(given.get("junk", ())),
        drop=tuple(given.get("drop", ())),
        cut_bottom=given.get("cut_bottom", 0),
        notes=given.get("notes", ""),
        parts={
            part: tuple(
                tuple(_file(file, f"{where}.parts.{part}") for file in choice) for choice in choices
            )
            for part, choices in _mapping(given["parts"], f"{where}.parts")
        },
    )


def _weights(name: str, entry: Any) -> Weights:
    where = f"weights.{name}"
    given = _keys(entry, where, ("title", "licence", "top1", "file"), ())
    file = _file(given["file"], f"{where}.file")
    return Weights(name, given["title"], given["licence"], float(given["top1"]), file)


def _file(entry: Any, where: str) -> File:
    given = _keys(entry, where, ("name", "urls"), _FILE)
    where = f"{where}.{given['name']}"
    if Path(given["name"]).name != given["name"] or given["name"].startswith("."):
        raise CatalogueError(f"catalogue key '{where}.name' must be a plain file name.")
    for algorithm, pattern in _HEXADECIMAL.items():
        digest = given.get(algorithm)
        if digest is not None and not pattern.fullmatch(str(digest)):
            raise CatalogueError(
                f"catalogue key '{where}.{algorithm}' is {digest!r}, not a {algorithm} in small "
                "hexadecimal letters."
            )
    addresses = [url for url in given["urls"] if isinstance(url, str)]
    dead = [
        _keys(url, f"{where}.urls", ("url", "dead"), ())
        for url in given["urls"]
        if not isinstance(url, str)
    ]
    for url in [*addresses, *(one["url"] for one in dead)]:
        if not url.startswith(("http://", "https://")):
            raise CatalogueError(
                f"catalogue key '{where}.urls' has {url!r}: it must begin with http:// or https://."
            )
    return File(
        name=given["name"],
        bytes=_number(given.get("bytes"), f"{where}.bytes", allow_none=True),
        sha256=given.get("sha256"),
        md5=given.get("md5"),
        unpacked=_number(given.get("unpacked"), f"{where}.unpacked", allow_none=True),
        urls=tuple(addresses),
        dead={one["url"]: one["dead"] for one in dead},
        move=dict(given.get("move", {})),
        caution=given.get("caution", ""),
    )


def _split(entry: Any, where: str) -> SplitRule:
    rule = _choice(dict(_mapping(entry, where)).get("rule"), f"{where}.rule", _SPLIT)
    given = _keys(entry, where, ("rule",), _SPLIT[rule])
    _pattern(given.get("group"), where)
    if rule == "fraction" and not 0 < given.get("test", 0) < 1:
        raise CatalogueError(f"catalogue key '{where}.test' must lie between 0 and 1.")
    if rule == "per_class" and given.get("train", 0) < 1:
        raise CatalogueError(f"catalogue key '{where}.train' must be at least 1.")
    return SplitRule(**given)


def _validation(entry: Any, where: str) -> SplitRule | None:
    if entry is None:
        return None
    given = _keys(entry, where, ("fraction", "seed"), ("group",))
    _pattern(given.get("group"), where)
    if not 0 < given["fraction"] < 1:
        raise CatalogueError(f"catalogue key '{where}.fraction' must lie between 0 and 1.")
    return SplitRule(
        "fraction", test=given["fraction"], seed=given["seed"], group=given.get("group")
    )


def _pattern(pattern: str | None, where: str) -> None:
    try:
        groups = re.compile(pattern).groups if pattern is not None else 1
    except re.error as error:
        raise CatalogueError(f"catalogue key '{where}.group' is no pattern: {error}.") from None
    if groups < 1:
        raise CatalogueError(f"catalogue key '{where}.group' must have a group in parentheses.")


def _range(value: Any, where: str) -> tuple[int, int] | dict[str, int]:
    if isinstance(value, Mapping):
        return {str(name): _number(number, f"{where}.{name}") for name, number in value.items()}
    if isinstance(value, list) and len(value) == 2:
        return _number(value[0], where), _number(value[1], where)
    return _number(value, where), _number(value, where)


def _number(value: Any, where: str, allow_none: bool = False) -> Any:
    if (allow_none and value is None) or (
        isinstance(value, int) and not isinstance(value, bool) and value > 0
    ):
        return value
    raise CatalogueError(f"catalogue key '{where}' is {value!r}, not a whole number above 0.")


def _choice(value: Any, where: str, allowed: Iterable[str]) -> Any:
    names = list(allowed)
    if value not in names:
        raise CatalogueError(
            f"catalogue key '{where}' is {value!r}: choose one of {', '.join(names)}."
        )
    return value


def _mapping(value: Any, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise CatalogueError(f"catalogue key '{where}' must be a mapping of keys.")
    return value.items()


def _keys(
    value: Any, where: str, required: Iterable[str], optional: Iterable[str]
) -> dict[str, Any]:
    given = dict(_mapping(value, where))
    allowed = [*required, *optional]
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise CatalogueError(
                f"catalogue key '{where}.{key}' does not exist: {hint}allowed are {', '.join(allowed)}."
            )
    for key in required:
        if key not in given:
            raise CatalogueError(f"catalogue key '{where}.{key}' is missing.")
    return given
