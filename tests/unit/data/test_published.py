"""Every entry of the catalogue, from the download to the prepared array, on miniature archives.

Only addresses, sizes and digests are replaced; counts, lists, layouts and rubbish are the real ones.
The large data sets have a k-th part of their images, unless LQF_FULL_MINIATURES is set.
"""

import csv
import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest
from fault_server import fault_server
from miniatures import BUILDERS, colour

from lqf.data.archives import obtain
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare_published
from lqf.data.published import read

CATALOGUE = read()
SIZE = 16
FULL = {"chest_xray", "oxford_pets", "flowers102", "cub200_2010"}
# What is left out, and how many: everything else must be there.
LEFT_OUT = {
    "caltech256": {
        "class 257.clutter": 82,
        "rubbish 256_ObjectCategories/*/RENAME2": 1,
        "rubbish 256_ObjectCategories/056.dog/greg/**": 1,
    },
    "chest_xray": {"rubbish **/.DS_Store": 5, "rubbish __MACOSX/**": 4},
    "malaria": {"rubbish **/Thumbs.db": 2},
    "mit67": {},
    "oxford_pets": {
        "in no list": 41,
        "rubbish annotations/trimaps/._*": 1,
        "rubbish images/*.mat": 3,
    },
    "cub200_2011": {"rubbish attributes.txt": 1},
    "stanford_cars": {"rubbish **/.DS_Store": 1, "rubbish cars_annos.mat": 1},
}


def served(dataset, folder, server):
    """The entry with the addresses, sizes and digests of the miniatures; what is not built is a 404."""

    def replaced(file):
        path = folder / file.name
        if not path.exists():
            return dataclasses.replace(file, urls=(server.url(f"missing/{file.name}"),))
        data = path.read_bytes()
        server.files[file.name] = path
        return dataclasses.replace(
            file,
            bytes=len(data) if file.bytes else None,
            sha256=hashlib.sha256(data).hexdigest() if file.sha256 else None,
            md5=hashlib.md5(data).hexdigest() if file.md5 else None,
            urls=(server.url(file.name),),
        )

    parts = {
        part: tuple(tuple(map(replaced, choice)) for choice in choices)
        for part, choices in dataset.parts.items()
    }
    return dataclasses.replace(dataset, parts=parts)


def thinned(dataset, k):
    """The entry of a data set with a k-th part of the images."""
    if k == 1:
        return dataset
    split = dataclasses.replace(dataset.split, train=dataset.split.train // k)
    return dataclasses.replace(
        dataset,
        found=None,
        images={name: number and number // k for name, number in dataset.images.items()}
        if dataset.split.rule == "official"
        else dict.fromkeys(dataset.images),
        per_class={
            name: (low // k, -(-high // k)) for name, (low, high) in dataset.per_class.items()
        },
        class_totals={name: number // k for name, number in dataset.class_totals.items()},
        split=split,
    )


def prepared(name, builder, tmp_path, k, faults=()):
    built = tmp_path / "built"
    built.mkdir()
    BUILDERS[builder](built, k)
    with fault_server() as server:
        dataset = served(thinned(CATALOGUE.get(name), k), built, server)
        for file in server.files:
            server.faults[file] = list(faults)
        lock = tmp_path / "datasets.lock.json"
        obtain(dataset, tmp_path / "archives", lock=lock)
    prepare_published(dataset, tmp_path / "archives", tmp_path / "data", SIZE, workers=1)
    return dataset


@pytest.mark.parametrize("builder", list(BUILDERS))
def test_from_the_server_to_the_array(builder, tmp_path):
    name = builder.removesuffix("_mirror").removesuffix("_original")
    k = 1 if builder in FULL or os.environ.get("LQF_FULL_MINIATURES") else 10
    entry = prepared(name, builder, tmp_path, k, faults=["drop"])

    data = PackedDataset.load(tmp_path / "data")
    assert data.images.shape[1:] == (SIZE, SIZE, 3)
    assert len(set(data.classes)) == len(data.classes) == entry.classes
    counts = {split: len(data.split_of(split)) for split in ("train", "val", "test")}
    official = dict(entry.images)
    if entry.validation is not None and official["train"]:
        assert counts["val"] >= max(entry.classes, 0.08 * official["train"])
        assert counts["val"] <= max(entry.classes, 0.14 * official["train"])
        counts["train"] += counts.pop("val")
    for split, number in official.items():
        assert number in {None, counts[split]}

    # The colour of every image is that of its label, so the labels are right.
    colours = np.array([colour(label) for label in range(entry.classes)], dtype=float)
    middle = np.asarray(data.images[:, SIZE // 2, SIZE // 2], dtype=float)
    grey = (middle.max(axis=1) - middle.min(axis=1)) < 3
    wanted = colours[data.labels]
    luma = wanted @ [0.299, 0.587, 0.114]
    wanted[grey] = luma[grey, None]
    assert np.abs(middle - wanted).max() <= 8
    assert grey.mean() < 0.2 or name in {"chest_xray", "malaria"}

    about = json.loads((tmp_path / "data" / "dataset.json").read_text())
    if builder == name and (k == 10 or builder in FULL):
        assert about["left_out"] == LEFT_OUT.get(name, {})
    assert about["truncated"] == []
    assert about["duplicates_across_splits"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["archives", "built", "data", *_pinned(entry, tmp_path)]
    )
    with (tmp_path / "data" / "index.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert len(first["sha256"]) == 64
    assert first["source"].lower().endswith(("jpg", "jpeg", "png"))


def _pinned(entry, tmp_path):
    lock = tmp_path / "datasets.lock.json"
    if not lock.exists():
        return []
    assert all(key.startswith(f"{entry.name}/") for key in json.loads(lock.read_text()))
    return [lock.name]
