"""Write a data set to a folder, all of it or nothing.

The folder holds ``images.npy`` (uint8, N × H × W × 3), ``index.csv`` (a line per image: row,
class, label, split, source, sha256 of its pixels), ``dataset.json`` (what it is) and
``contact_sheet.png`` (what it looks like). The same name and size give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lqf.data import catalogue
from lqf.data.build import Sample, build, count
from lqf.data.catalogue import SPLITS, DatasetSpec
from lqf.data.contact_sheet import contact_sheet
from lqf.data.folder import replacing, write_description, write_index


def prepare(name: str, folder: Path | str, image_size: int = 24) -> None:
    """Make a data set and write it to disk.

    The files are written beside the folder first and take its place by renaming, so a run that
    fails or is interrupted leaves the folder as it was.

    Args:
        name: A name out of the catalogue.
        folder: Where to write; an earlier version of the data set in it is replaced.
        image_size: Height and width of the images in pixels, H = W.

    Raises:
        ValueError: If the name or the size is not allowed, if the folder holds anything that is
            not part of a data set, or if the data set fails its checks.
    """
    spec = catalogue.get(name)
    with replacing(folder, image_size) as partial:
        samples = list(tqdm(build(spec, image_size), total=count(spec), desc=name, unit="image"))
        digests = [hashlib.sha256(sample.image.tobytes()).hexdigest() for sample in samples]
        check(spec, samples, digests)
        _write(partial, spec, image_size, samples, digests)


def check(spec: DatasetSpec, samples: Sequence[Sample], digests: Sequence[str]) -> None:
    """Refuse a data set with an empty class, a wrong number of images, or a repeated image.

    Raises:
        ValueError: If something is wrong with it.
    """
    for split in SPLITS:
        labels = [sample.label for sample in samples if sample.split == split]
        numbers = np.bincount(labels, minlength=len(spec.classes))
        wanted = spec.per_class[split]
        for name, number in zip(spec.classes, numbers, strict=True):
            if number == 0 or number != (wanted or number):
                raise ValueError(
                    f"class {name!r} of data set {spec.name!r} has {number} images in split "
                    f"{split!r}: the catalogue asks for {wanted or 'at least one'}."
                )
    first: dict[str, int] = {}
    for row, digest in enumerate(digests):
        if first.setdefault(digest, row) != row:
            raise ValueError(
                f"rows {first[digest]} ({samples[first[digest]].split}) and {row} "
                f"({samples[row].split}) of data set {spec.name!r} are the same image: every "
                "image may appear once; change the recipe or the seed in the catalogue."
            )


def _write(
    folder: Path, spec: DatasetSpec, size: int, samples: Sequence[Sample], digests: Sequence[str]
) -> None:
    images = np.stack([sample.image for sample in samples])
    np.save(folder / "images.npy", images)

    write_index(
        folder,
        (
            (spec.classes[one.label], one.label, one.split, one.source, digest)
            for one, digest in zip(samples, digests, strict=True)
        ),
    )
    description = {
        "name": spec.name,
        "title": spec.title,
        "group": spec.group,
        "distance": spec.distance,
        "description": spec.description,
        "classes": list(spec.classes),
        "image_size": size,
        "images": {s: sum(sample.split == s for sample in samples) for s in SPLITS},
        "seed": spec.seed,
        "paper": spec.paper,
    }
    write_description(folder, description)

    groups: list[list[int]] = [[] for _ in spec.classes]
    for row, sample in enumerate(samples):
        if sample.split == "train":
            groups[sample.label].append(row)
    title = f"{spec.title}: {len(spec.classes)} classes, {len(samples)} images"
    sheet = contact_sheet(title, [images[rows] for rows in groups], spec.classes)
    sheet.save(folder / "contact_sheet.png", optimize=True)
