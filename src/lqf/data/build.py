"""Make the images of a data set, split by split, in a fixed order and from fixed seeds.

Image number i of a data set is drawn from its own generator, seeded by the data set's seed and i,
so it depends neither on the images before it nor on the process that draws it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from lqf.data.catalogue import SPLITS, DatasetSpec, Split
from lqf.data.glyphs import render_glyph
from lqf.data.listing import Entry
from lqf.data.recipes import RECIPES
from lqf.data.textures import render_texture

Made = tuple[Entry, NDArray[np.uint8]]
"""What is known of an image, where it comes from in place of a path, and the image, H × W × 3."""

# The digits hold counts of ink, 0 to 16.
_FULL_INK = 16.0


def build(spec: DatasetSpec, size: int) -> Iterator[Made]:
    """Make a data set, one image of H = W = `size` at a time.

    Train comes first, then val, then test; the classes take turns within a split.
    """
    yield from _read(spec, size) if spec.name == "digits" else _render(spec, size)


def count(spec: DatasetSpec) -> int | None:
    """Tell how many images a data set will have; None where it is known only from the source."""
    numbers = [spec.per_class[split] for split in SPLITS]
    known = [number for number in numbers if number is not None]
    return len(spec.classes) * sum(known) if len(known) == len(numbers) else None


def _render(spec: DatasetSpec, size: int) -> Iterator[Made]:
    index = 0
    for split in SPLITS:
        for _ in range(spec.per_class[split] or 0):
            for label, name in enumerate(spec.classes):
                rng = np.random.default_rng(np.random.SeedSequence([spec.seed, index]))
                image, source = _draw(spec.name, name, size, rng)
                yield Entry(source, label, split), image
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


def read_digits(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the handwritten digits that scikit-learn ships, enlarged to H = W = `size`.

    Returns:
        The images, 1797 × H × W × 3 (grey, light ink on black), and their labels, 1797.
    """
    bunch = load_digits()
    small = np.rint(255.0 * bunch.images / _FULL_INK).astype(np.uint8)
    large = [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in small]
    images = np.stack([np.asarray(one.convert("RGB")) for one in large])
    return images, bunch.target.astype(np.int64)


def _read(spec: DatasetSpec, size: int) -> Iterator[Made]:
    images, labels = read_digits(size)
    order = np.random.default_rng(spec.seed).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in range(len(spec.classes))]
    for split, groups in zip(SPLITS, _cut(spec, by_class), strict=True):
        # The classes take turns, as in rendered data sets, until the longest one is used up.
        turns = [(turn, label) for label, rows in enumerate(groups) for turn in range(len(rows))]
        for turn, label in sorted(turns):
            row = int(groups[label][turn])
            yield Entry(f"sklearn.datasets.load_digits {row}", label, split), images[row]


def _cut(spec: DatasetSpec, by_class: list[NDArray[np.int64]]) -> list[list[NDArray[np.int64]]]:
    # The split without a number comes last and takes what is left of every class.
    cut: dict[Split, list[NDArray[np.int64]]] = {}
    for split in sorted(SPLITS, key=lambda split: spec.per_class[split] is None):
        number = spec.per_class[split]
        cut[split] = [rows[:number] for rows in by_class]
        by_class = [rows[len(taken) :] for rows, taken in zip(by_class, cut[split], strict=True)]
    return [cut[split] for split in SPLITS]
