"""Pages that stand alone: one HTML file each, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lqf import __version__

_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def write_page(name: str, path: Path, **values: object) -> None:
    """Write a page from a template in lqf/pages/templates, which shows the values; text is escaped."""
    folder = files("lqf.pages") / "templates"
    parts = {one: (folder / one).read_text(encoding="utf-8") for one in ("style.css", "table.js")}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embedded"] = embedded
    page = environment.from_string((folder / name).read_text(encoding="utf-8"))
    known = {"style": parts["style.css"], "script": parts["table.js"], "version": __version__}
    write_text(page.render(**known, **values) + "\n", path)


def embedded(content: bytes, kind: str | None = None) -> str:
    """A data URL of the content of a file; without a media type, PNG and JPEG are told apart."""
    found = (media for start, media in _KINDS.items() if content.startswith(start))
    media = kind or next(found, "application/octet-stream")
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def write_text(text: str, path: Path) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
