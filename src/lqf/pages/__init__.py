"""Pages that stand alone: one HTML file each, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lqf import __version__
from lqf.files import write_text

# Names that others chose may turn the direction of what follows, or tell a terminal to do something: such marks are
# shown and not obeyed.
_UNSEEN = {
    mark: f"⟨U+{mark:04X}⟩"
    for mark in (*range(9), *range(11, 32), 127, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def write_page(name: str, path: Path, **values: object) -> None:
    """Write a page from a template in lqf/pages/templates, which shows the values; text is escaped."""
    known = {"style": _part("style.css"), "script": _part("table.js"), "version": __version__}
    page = render(name, {"embedded": embedded}, autoescape=True, **known, **values)
    write_text(page + "\n", path)


def render(
    name: str, filters: Mapping[str, Callable[..., str]], autoescape: bool = False, **values: object
) -> str:
    """Fill in a template in lqf/pages/templates."""
    environment = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value.translate(_UNSEEN) if isinstance(value, str) else value,
    )  # fmt: skip
    environment.filters.update(filters)
    return environment.from_string(_part(name)).render(**values)


def _part(name: str) -> str:
    return (files("lqf.pages") / "templates" / name).read_text(encoding="utf-8")


def embedded(content: bytes, kind: str | None = None) -> str:
    """A data URL of the content of a file; without a media type, PNG and JPEG are told apart."""
    found = (media for start, media in _KINDS.items() if content.startswith(start))
    media = kind or next(found, "application/octet-stream")
    return f"data:{media};base64,{base64.b64encode(content).decode()}"
