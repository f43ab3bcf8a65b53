"""The data sets of the paper and the published weights, as `config/datasets.yaml` describes them.

`lqf.data.published_reader` reads and checks that file. This module is read while a workflow is being
planned, so it imports neither torch nor Pillow.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lqf.data.catalogue import Split

Range = tuple[int, int]
"""Fewest and most images."""


class CatalogueError(ValueError):
    """The catalogue is not usable; the message says which key is wrong and what is allowed."""


@dataclass(frozen=True)
class File:
    """One file to download.

    Attributes:
        name: What it is called in the archive folder.
        bytes: Its size, or None if unknown.
        sha256: Hexadecimal digest, or None if unknown.
        md5: Hexadecimal digest, or None; used where there is no sha256.
        unpacked: Bytes that its content may have at most; None for a file that is no archive.
        urls: Where it is, in the order in which to try.
        dead: Where it was: address -> what became of it. Never tried.
        move: Folders that it calls differently: its name -> the name in `take`; ``.`` is the top.
        caution: Why its address may refuse, such as one that may ask for an account; else empty.
        prefix: How its sha256 begins, where only that is known.
    """

    name: str
    bytes: int | None
    sha256: str | None
    md5: str | None
    unpacked: int | None
    urls: tuple[str, ...]
    dead: Mapping[str, str]
    move: Mapping[str, str]
    caution: str = ""
    prefix: str | None = None

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and (beginning of the) digest to verify with, the strongest one that is known."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        if self.md5 is not None:
            return "md5", self.md5
        return ("sha256", self.prefix) if self.prefix is not None else None


@dataclass(frozen=True)
class SplitRule:
    """How a data set without an official split is split, and how validation images are set aside.

    Attributes:
        rule: official, per_class (`train` images of every class), or fraction (`test` of the images).
        train: Training images of a class.
        test: Fraction of the images to test on.
        seed: Of the draw.
        group: Regular expression at the start of a file name; files with the same first group stay
            together. None draws single images.
    """

    rule: Literal["official", "per_class", "fraction"]
    train: int = 0
    test: float = 0.0
    seed: int = 0
    group: str | None = None


@dataclass(frozen=True)
class Published:
    """One data set of the paper; the attributes are the keys of the catalogue, described there.

    Attributes:
        paper: How Table 1 of the paper calls it, or None.
        per_class: split -> (fewest, most) images of every class, or class -> number.
        parts: part -> choices, best first -> files.
    """

    name: str
    title: str
    paper: str | None
    group: Literal["coarse", "fine"]
    home: str | None
    citation: str
    licence: str
    classes: int
    found: int | None
    images: Mapping[Split, int | None]
    per_class: Mapping[Split, Range | Mapping[str, int]]
    class_totals: Mapping[str, int]
    class_names: tuple[str, ...]
    layout: str
    split: SplitRule
    validation: SplitRule | None
    take: tuple[str, ...]
    junk: tuple[str, ...]
    drop: tuple[str, ...]
    cut_bottom: int
    notes: str
    parts: Mapping[str, tuple[tuple[File, ...], ...]]

    def choice(self, part: str) -> tuple[File, ...]:
        """The best choice of a part that still has addresses, else the best one."""
        choices = self.parts[part]
        return next((one for one in choices if all(file.urls for file in one)), choices[0])

    @property
    def download_bytes(self) -> int:
        """Bytes of the choice of every part that is downloaded, as far as known."""
        return sum(file.bytes or 0 for part in self.parts for file in self.choice(part))


@dataclass(frozen=True)
class Weights:
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
    def parts(self) -> Mapping[str, tuple[tuple[File, ...], ...]]:
        """The file, as the parts of a data set are described."""
        return {"weights": ((self.file,),)}


@dataclass(frozen=True)
class Catalogue:
    """All that `config/datasets.yaml` holds.

    Attributes:
        datasets: name -> data set, in the order of the file.
        weights: name -> weights.
    """

    datasets: Mapping[str, Published]
    weights: Mapping[str, Weights]

    def get(self, name: str) -> Published:
        """Look a data set up.

        Args:
            name: Its key in the catalogue.

        Returns:
            Its entry.

        Raises:
            CatalogueError: If there is no such data set.
        """
        if name in self.datasets:
            return self.datasets[name]
        close = difflib.get_close_matches(name, self.datasets, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise CatalogueError(
            f"unknown data set {name!r}: {hint}the catalogue has {', '.join(self.datasets)}."
        )
