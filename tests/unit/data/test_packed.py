import csv
import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lqf.data import catalogue
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare

CLASSES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight classes of textures with 6, 2 and 3 images."""
    spec = dataclasses.replace(
        catalogue.get("textures"), per_class={"train": 6, "val": 2, "test": 3}
    )
    folder = tmp_path_factory.mktemp("data") / "textures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue.DEMO, "textures", spec)
        prepare("textures", folder, image_size=16)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return PackedDataset.load(folder)


def test_what_was_prepared_is_read_back(data, folder):
    assert data.name == "textures"
    assert data.classes == catalogue.get("textures").classes
    np.testing.assert_array_equal(data.images, np.load(folder / "images.npy"))
    with (folder / "index.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert data.labels.tolist() == [int(line["label"]) for line in lines]
    assert data.splits.tolist() == [line["split"] for line in lines]
    assert data.sources == tuple(line["source"] for line in lines)


def test_images_stay_on_disk_and_cannot_be_changed(data):
    assert isinstance(data.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0


def test_splits_share_no_row_and_cover_all(data):
    parts = [data.split_of(split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [48, 16, 24]
    assert sorted(np.concatenate(parts)) == list(range(88))


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), shots=st.integers(1, 6))
def test_a_draw_is_balanced_and_begins_every_larger_one(data, seed, shots):
    rows = data.subset("train", shots, seed)
    assert len(set(rows)) == len(rows) == shots * CLASSES
    assert set(Counter(data.labels[rows].tolist()).values()) == {shots}
    assert set(data.splits[rows]) == {"train"}
    np.testing.assert_array_equal(rows, data.subset("train", None, seed)[: len(rows)])


@settings(deadline=None)
@given(length=st.integers(1, 48), seed=st.integers(0, 100))
def test_every_beginning_of_a_draw_is_as_balanced_as_it_can_be(data, length, seed):
    numbers = np.bincount(data.labels[data.subset("train", None, seed)[:length]], minlength=CLASSES)
    assert numbers.max() - numbers.min() <= 1


def test_the_same_seed_draws_the_same_and_another_does_not(data):
    np.testing.assert_array_equal(data.subset("train", 3, 7), data.subset("train", 3, 7))
    assert set(data.subset("train", 3, 7)) != set(data.subset("train", 3, 8))


def test_classes_may_differ_in_size(data):
    kept = np.setdiff1d(np.arange(88), data.split_of("train")[[0, 8, 16]])
    uneven = dataclasses.replace(
        data, labels=data.labels[kept], splits=data.splits[kept], images=data.images[kept]
    )
    assert len(uneven.subset("train")) == 45
    first = uneven.labels[uneven.subset("train")[: 3 * CLASSES]]
    assert set(np.bincount(first)) == {3}


def test_a_class_with_fewer_images_gives_all_of_them(data):
    assert len(data.subset("train", 7)) == 6 * CLASSES


def test_tensors_are_normalised_and_channels_come_first(data):
    rows = np.array([5, 0, 80])
    images, labels = data.tensors(rows)
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert labels.tolist() == data.labels[rows].tolist()
    expected = (np.asarray(data.images[80], dtype=float)[2, 7] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(images[2, :, 2, 7].numpy(), expected, rtol=1e-6, atol=1e-6)


def _copy(folder, target):
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize("file", ["images.npy", "index.csv", "dataset.json"])
def test_a_missing_file_is_refused(folder, tmp_path, file):
    _copy(folder, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=f"{file} is missing; run `python -m lqf prepare`"):
        PackedDataset.load(tmp_path)
