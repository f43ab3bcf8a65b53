"""The data sets of the demo world: what each is called, what its classes are, how many images.

This module is read while a workflow is being planned, so it imports neither torch nor Pillow.
How an image comes about is said elsewhere: `recipes` (glyphs), `textures` and `digits`.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lqf.nearest import nearest

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# The lower-case letters that are more than a small copy of their capital. "l" is left out although
# it is: without serifs it is the same bar as a capital "I".
_LOWER_CASE = "abdefghijkmnqrty"


_TARGET: Mapping[Split, int | None] = {"train": 40, "val": 15, "test": 60}


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, as the catalogue knows it.

    Attributes:
        name: Key in the catalogue and name of the folder.
        group: ``source`` (pre-training), ``coarse`` (Table 1) or ``fine`` (Table 2).
        distance: How far the task lies from the source task.
        description: One sentence for captions.
        classes: Class names; a label is an index into them.
        seed: Root of every random draw that makes the data set.
        per_class: Images of one class in each split; None means all that the other splits leave.
        paper: The data set of the paper whose part this one plays, if there is one.
    """

    name: str
    group: Literal["source", "coarse", "fine"]
    distance: Literal["source", "real", "near", "fine", "far"]
    description: str
    classes: tuple[str, ...]
    seed: int
    per_class: Mapping[Split, int | None] = field(default_factory=lambda: _TARGET)
    paper: str | None = None

    @property
    def title(self) -> str:
        """How tables and figures call it."""
        return self.name.title()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SPECS = (
    DatasetSpec(
        *("letters", "source", "source"),
        "Latin letters in 16 fonts; the task that the backbone is pre-trained on.",
        classes=(*string.ascii_uppercase, *_LOWER_CASE),
        # Rounded up from 20,000, 1,000 and 1,000 images to whole classes.
        per_class={"train": 477, "val": 24, "test": 24},
        seed=0,
        paper="ImageNet",
    ),
    DatasetSpec(
        *("digits", "coarse", "real"),
        "Digits written by hand, from scikit-learn; the one real data set of the demo.",
        classes=tuple(string.digits),
        per_class={"train": None, "val": 20, "test": 50},
        seed=1,
    ),
    DatasetSpec(
        *("greek", "coarse", "near"),
        "Small Greek letters, printed smaller, more tilted and noisier than the source task.",
        _words("gamma nu upsilon epsilon zeta xi eta mu sigma delta pi tau"),
        seed=2,
    ),
    DatasetSpec(
        *("cyrillic", "coarse", "near"),
        "Cyrillic capitals that are not Latin ones, in 13 of the fonts.",
        _words("Be De Zhe I El Tse Che Sha Shcha E Yu Ya"),
        seed=3,
    ),
    DatasetSpec(
        *("fonts", "fine", "fine"),
        "Which of eight typefaces a letter is set in, whatever the letter.",
        classes=(
            *("DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "STIX"),
            *("CM Roman", "CM Sans", "CM Typewriter", "CM Italic"),
        ),
        seed=4,
        paper="FGVC-Aircraft",
    ),
    DatasetSpec(
        *("accents", "fine", "fine"),
        "Which of eight diacritics a vowel carries, whatever the vowel.",
        _words("grave acute circumflex tilde diaeresis macron breve ogonek"),
        seed=5,
        paper="CUB-200",
    ),
    DatasetSpec(
        *("styles", "fine", "fine"),
        "Weight, slant and serifs of a letter, whatever the letter.",
        classes=tuple(
            f"{family} {style}"
            for family in ("sans", "serif")
            for style in ("regular", "bold", "oblique", "bold oblique")
        ),
        seed=6,
        paper="Stanford Cars",
    ),
    DatasetSpec(
        *("textures", "coarse", "far"),
        "Procedural textures in random colours, scales and directions; no glyphs.",
        _words("stripes checks dots rings zigzag bricks cells clouds"),
        seed=7,
    ),
)

DEMO: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}


def get(name: str) -> DatasetSpec:
    """Look a data set up.

    Raises:
        ValueError: If there is no such data set.
    """
    if name in DEMO:
        return DEMO[name]
    raise ValueError(f"unknown data set {name!r}: {nearest(name, DEMO)}")
