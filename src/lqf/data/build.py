"""Make the images of a data set, split by split, in a fixed order and from fixed seeds.

Image number i of a data set is drawn from its own generator, seeded by the data set's seed and i,
so it depends neither on the images before it nor on the process that draws it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lqf.data.catalogue import SPLITS, DatasetSpec, Split
from lqf.data.digits import read_digits
from lqf.data.glyphs import render_glyph
from lqf.data.recipes import RECIPES
from lqf.data.textures import render_texture


@dataclass(frozen=True)
class Sample:
    """One image with everything that is known about it.

    Attributes:
        image: H × W × 3.
        label: Index into the classes of the data set.
        split: The split it belongs to.
        source: Where the image comes from.
    """

    image: NDArray[np.uint8]
    label: int
    split: Split
    source: str


def build(spec: DatasetSpec, size: int) -> Iterator[Sample]:
    """Make a data set, one image at a time.

    Args:
        spec: Its entry in the catalogue.
        size: Height and width of the images, H = W.

    Yields:
        The images: train, then val, then test; the classes take turns within a split.
    """
    yield from _read(spec, size) if spec.name == "digits" else _render(spec, size)


def count(spec: DatasetSpec) -> int | None:
    """Tell how many images a data set will have.

    Returns:
        The number N, or None where it is known only from the source.
    """
    numbers = [spec.per_class[split] for split in SPLITS]
    known = [number for number in numbers if number is not None]
    return len(spec.classes) * sum(known) if len(known) == len(numbers) else None


def _render(spec: DatasetSpec, size: int) -> Iterator[Sample]:
    index = 0
    for split in SPLITS:
        for _ in range(spec.per_class[split] or 0):
            for label, name in enumerate(spec.classes):
                rng = np.random.default_rng(np.random.SeedSequence([spec.seed, index]))
                image, source = _draw(spec.name, name, size, rng)
                yield Sample(image, label, split, source)
                index += 1


def _draw(
    dataset: str, name: str, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], str]:
    if dataset not in RECIPES:
        return render_texture(name, size, rng), f"texture {name}"
    recipe = RECIPES[dataset]
    texts, fonts = recipe.texts[name], recipe.fonts[name]
    text, font = texts[rng.integers(len(texts))], fonts[rng.integers(len(fonts))]
    image = render_glyph(text, font, size, recipe.variation, rng)
    return image, f"glyph U+{ord(text):04X} {font}"


def _read(spec: DatasetSpec, size: int) -> Iterator[Sample]:
    images, labels = read_digits(size)
    order = np.random.default_rng(spec.seed).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in range(len(spec.classes))]
    for split, groups in zip(SPLITS, _cut(spec, by_class), strict=True):
        # The classes take turns, as in rendered data sets, until the longest one is used up.
        turns = [(turn, label) for label, rows in enumerate(groups) for turn in range(len(rows))]
        for turn, label in sorted(turns):
            row = int(groups[label][turn])
            yield Sample(images[row], label, split, f"sklearn.datasets.load_digits {row}")


def _cut(spec: DatasetSpec, by_class: list[NDArray[np.int64]]) -> list[list[NDArray[np.int64]]]:
    # The split without a number comes last and takes what is left of every class.
    cut: dict[Split, list[NDArray[np.int64]]] = {}
    for split in sorted(SPLITS, key=lambda split: spec.per_class[split] is None):
        number = spec.per_class[split]
        cut[split] = [rows[:number] for rows in by_class]
        by_class = [rows[len(taken) :] for rows, taken in zip(by_class, cut[split], strict=True)]
    return [cut[split] for split in SPLITS]
