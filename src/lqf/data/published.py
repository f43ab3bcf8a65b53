"""The data sets of the paper and the published weights: every key of `config/datasets.yaml`.

Each class checks what it is made of, whoever makes it. Read while a workflow is being planned, so it
imports neither torch nor Pillow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from lqf import backbones, documents
from lqf.data.catalogue import DEMO, Split
from lqf.nearest import nearest

# Torchvision ends the name of a file with the beginning of its sha256.
_PREFIX = re.compile(r".*-([0-9a-f]{8,64})\.pth")


class CatalogueError(ValueError):
    """The catalogue is not usable; the message says which key is wrong and what is allowed."""


def _group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"it is no pattern, {error}") from None
    if groups < 1:
        raise ValueError("it must have a group in parentheses")
    return pattern


def _not_of_the_demo(name: str) -> str:
    if name in DEMO:
        raise ValueError("it is a name of the demo's, choose another one")
    return name


def _both_ends(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


Count = Annotated[int, Field(gt=0, strict=True)]
Name = Annotated[str, Field(pattern=documents.NAME), AfterValidator(_not_of_the_demo)]
FileName = Annotated[str, Field(pattern=r"^[^./\\][^/\\]*$")]
Address = Annotated[str, Field(pattern="^https?://")]
Group = Annotated[str, AfterValidator(_group)]
"""Regular expression at the start of a file name; files with the same first group stay together."""
Range = Annotated[tuple[Count, Count], BeforeValidator(_both_ends)]
"""Fewest and most images; a number is both."""
Patterns = tuple[str, ...]
CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=CHECKED)
class File:
    """One file to download.

    Attributes:
        name: What it is called in the archive folder.
        urls: Where it is, in the order in which to try.
        bytes: Its size, or None if unknown.
        sha256: Hexadecimal digest, or None if unknown.
        md5: Hexadecimal digest, or None; used where there is no sha256.
        unpacked: Bytes that its content may have at most; None for a file that is no archive.
        dead: Where it was: address -> what became of it. Never tried.
        move: Folders that it calls differently: its name -> the name in `take`; ``.`` is the top.
        caution: Why its address may refuse, such as one that may ask for an account; else empty.
        prefix: How its sha256 begins, where only that is known.
    """

    name: FileName
    urls: tuple[Address, ...]
    bytes: Count | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    unpacked: Count | None = None
    dead: Mapping[Address, str] = Field(default_factory=dict)
    move: Mapping[str, str] = Field(default_factory=dict)
    caution: str = ""
    prefix: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _part_the_dead(cls, given: Any) -> Any:
        """An address in the catalogue is {url, dead: why} where nothing is there any more."""
        if not isinstance(given, dict) or not isinstance(given.get("urls"), list):
            return given
        dead = [url for url in given["urls"] if isinstance(url, dict) and {*url} == {"url", "dead"}]
        alive = [url for url in given["urls"] if url not in dead]
        return {**given, "urls": alive, "dead": {one["url"]: one["dead"] for one in dead}}

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and (beginning of the) digest to verify with, the strongest one that is known."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        if self.md5 is not None:
            return "md5", self.md5
        return ("sha256", self.prefix) if self.prefix is not None else None


@dataclass(frozen=True, config=CHECKED)
class SplitRule:
    """How a data set without an official split is split, and how validation images are set aside.

    Attributes:
        rule: official, per_class (`train` images of every class), or fraction (`test` of the images).
        train: Training images of a class.
        test: Fraction of the images to take.
        seed: Of the draw.
        group: Files with the same first group of this pattern stay together. None draws single images.
    """

    rule: Literal["official", "per_class", "fraction"]
    train: Annotated[int, Field(ge=0)] = 0
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: int = 0
    group: Group | None = None

    @model_validator(mode="after")
    def _amount(self) -> SplitRule:
        if (self.rule == "fraction") != (self.test > 0):
            raise ValueError("a fraction, and no other rule, needs 'test' between 0 and 1")
        if (self.rule == "per_class") != (self.train > 0):
            raise ValueError("per_class, and no other rule, needs 'train' of at least 1")
        return self


class _Parts:
    """What is downloaded: part -> choices, best first -> files."""

    name: str
    parts: Mapping[str, tuple[tuple[File, ...], ...]]

    def choice(self, part: str) -> tuple[File, ...]:
        """The best choice of a part that still has addresses, else the best one."""
        choices = self.parts[part]
        return next((one for one in choices if all(file.urls for file in one)), choices[0])

    @property
    def best(self) -> list[File]:
        """The files of the choice of every part that is downloaded."""
        return [file for part in self.parts for file in self.choice(part)]

    @property
    def download_bytes(self) -> int:
        """Their bytes, as far as known."""
        return sum(file.bytes or 0 for file in self.best)


@dataclass(frozen=True, config=CHECKED)
class Published(_Parts):
    """One data set of the paper; the attributes are the keys of the catalogue, described there.

    Attributes:
        paper: How Table 1 of the paper calls it, or None.
        per_class: split -> (fewest, most) images of every class, or class -> number.
        missing: So many images that its lists name may be missing.
        parts: part -> choices, best first -> files.
    """

    name: Name
    title: str
    group: Literal["coarse", "fine"]
    citation: str
    licence: str
    classes: Count
    images: Mapping[Split, Count | None]
    layout: str
    split: SplitRule
    take: Patterns
    parts: Mapping[str, tuple[tuple[File, ...], ...]]
    paper: str | None = None
    home: str | None = None
    found: Count | None = None
    per_class: Mapping[Split, Range | Mapping[str, Count]] = Field(default_factory=dict)
    class_totals: Mapping[str, Count] = Field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    validation: SplitRule | None = None
    missing: Annotated[int, Field(ge=0)] = 0
    junk: Patterns = ()
    drop: Patterns = ()
    cut_bottom: Annotated[int, Field(ge=0)] = 0
    notes: str = ""

    @model_validator(mode="after")
    def _belong_together(self) -> Published:
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(
                f"'class_names' has {len(self.class_names)} names, but 'classes' is {self.classes}"
            )
        if not {"train", "test"} <= {*self.images}:
            raise ValueError("'images' needs 'train' and 'test'")
        return self


@dataclass(frozen=True, config=CHECKED)
class Weights(_Parts):
    """Published weights of a backbone.

    Attributes:
        name: NETWORK.SOURCE, as ``resnet50.imagenet1k_v1``.
        top1: ImageNet accuracy in %, if known.
    """

    name: str
    title: str
    licence: str
    top1: float | None
    file: File

    @property
    def parts(self) -> Mapping[str, tuple[tuple[File, ...], ...]]:  # type: ignore[override]
        """The file, as the parts of a data set are described."""
        return {"weights": ((self.file,),)}


def _named(entries: Any) -> Any:
    """What is under a key is told its name."""
    if not isinstance(entries, dict):
        return entries
    return {
        key: {"name": key, **entry} if isinstance(entry, dict) else entry
        for key, entry in entries.items()
    }


@dataclass(frozen=True, config=CHECKED)
class Catalogue:
    """All that `config/datasets.yaml` holds.

    Attributes:
        datasets: name -> data set, in the order of the file.
        weights: name -> weights.
    """

    datasets: Annotated[Mapping[str, Published], BeforeValidator(_named)]
    weights: Annotated[Mapping[str, Weights], BeforeValidator(_named)]

    def get(self, name: str) -> Published:
        """Look a data set up.

        Raises:
            CatalogueError: If there is no such data set.
        """
        if name in self.datasets:
            return self.datasets[name]
        raise CatalogueError(f"unknown data set {name!r}: {nearest(name, self.datasets)}")


def default_path() -> Path:
    """Find the catalogue: LQF_CATALOGUE, else config/datasets.yaml here, else the source tree's."""
    if named := os.environ.get("LQF_CATALOGUE"):
        return Path(named)
    here = Path("config", "datasets.yaml")
    return here if here.is_file() else Path(__file__).resolve().parents[3] / here


def read(path: Path | str | None = None) -> Catalogue:
    """Read the catalogue, by default from `default_path`.

    Raises:
        CatalogueError: If the file is missing or a key in it is wrong; one line for each key.
    """
    path = Path(path or default_path())
    try:
        return documents.validated(Catalogue, documents.read(path), "catalogue key")
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue {path}: run in the folder that holds config/datasets.yaml, or "
            "name the file with --catalogue or LQF_CATALOGUE."
        ) from None
    except documents.BadDocument as error:
        raise CatalogueError(f"the catalogue cannot be read: {error}") from None
    except documents.WrongKeys as wrong:
        raise CatalogueError(str(wrong)) from None


def find_weights(catalogue: Catalogue, name: str) -> Weights:
    """Look up NETWORK.SOURCE as ``resnet18.imagenet1k_v1``, in the catalogue, then in torchvision.

    Raises:
        CatalogueError: If neither knows them.
    """
    if name in catalogue.weights:
        return catalogue.weights[name]
    network, _, source = name.partition(".")
    backbones.check_network(network)
    from torchvision import models

    if network == backbones.DEMO or source not in backbones.sources(network, "relu"):
        allowed = ", ".join(f"{network}.{one}" for one in backbones.sources(network, "relu"))
        raise CatalogueError(
            f"there are no published weights {name!r}: those of {network!r} are {allowed or 'none'}."
        )
    found = models.get_model_weights(network)[source.upper()]
    file_name = PurePosixPath(urlsplit(found.url).path).name
    prefix = _PREFIX.fullmatch(file_name)
    accuracy = found.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return Weights(
        name=name,
        title=f"{network}, torchvision {source.upper()}",
        licence="BSD-3-Clause",
        top1=accuracy,
        file=File(file_name, (found.url,), prefix=prefix[1] if prefix else None),
    )
