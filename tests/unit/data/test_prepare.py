import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest

from lqf.data import catalogue
from lqf.data import prepare as module
from lqf.data.build import build
from lqf.data.folder import COLUMNS, FILES
from lqf.data.prepare import prepare


@pytest.fixture
def small(monkeypatch):
    """The Greek data set with three images a class."""
    spec = dataclasses.replace(catalogue.get("greek"), per_class={"train": 2, "val": 1, "test": 1})
    monkeypatch.setitem(catalogue.DEMO, "greek", spec)
    return spec


def _contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_holds_four_files_that_agree(small, tmp_path):
    folder = tmp_path / "data" / "demo" / "greek"
    prepare("greek", folder, image_size=20)
    assert sorted(_contents(folder)) == sorted(FILES)
    images = np.load(folder / "images.npy")
    assert images.shape == (48, 20, 20, 3)
    with (folder / "index.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        assert tuple(reader.fieldnames) == COLUMNS
    assert [int(line["row"]) for line in lines] == list(range(48))
    for image, line in zip(images, lines, strict=True):
        assert line["class"] == small.classes[int(line["label"])]
        assert line["sha256"] == hashlib.sha256(image.tobytes()).hexdigest()
    description = json.loads((folder / "dataset.json").read_text())
    assert description["classes"] == list(small.classes)
    assert description["images"] == {"train": 24, "val": 12, "test": 12}
    for file, digest in description["sha256"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest


def test_twice_gives_the_same_bytes_and_leaves_nothing_else(small, tmp_path):
    prepare("greek", tmp_path / "one", image_size=16)
    prepare("greek", tmp_path / "two", image_size=16)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_earlier_version_is_replaced_and_an_empty_folder_filled(small, tmp_path):
    folder = tmp_path / "greek"
    folder.mkdir()
    prepare("greek", folder, image_size=16)
    prepare("greek", folder, image_size=18)
    assert np.load(folder / "images.npy").shape[1:3] == (18, 18)
    assert [path.name for path in tmp_path.iterdir()] == ["greek"]


def test_a_failure_while_writing_leaves_the_earlier_version(small, tmp_path, monkeypatch):
    folder = tmp_path / "greek"
    prepare("greek", folder, image_size=16)
    before = _contents(folder)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "contact_sheet", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare("greek", folder, image_size=18)
    assert _contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["greek"]


def test_a_folder_with_other_files_is_refused_untouched(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match=r"holds 'thesis.txt', which is not part of a data set"):
        prepare("greek", tmp_path, image_size=16)
    assert _contents(tmp_path) == {"thesis.txt": b"three years"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "greek").write_text("")
    with pytest.raises(ValueError, match="is a file: name a folder"):
        prepare("greek", tmp_path / "greek")


@pytest.mark.parametrize("size", [15, 1025, 24.0, "24"])
def test_an_image_size_out_of_range_is_refused(size, tmp_path):
    with pytest.raises(ValueError, match="choose a whole number of pixels from 16 to 1024"):
        prepare("greek", tmp_path / "greek", image_size=size)


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        prepare("digitz", tmp_path / "digitz")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_class_is_refused(small, tmp_path, monkeypatch):
    made = [one for one in build(small, 16) if (one[0].split, one[0].label) != ("val", 2)]
    monkeypatch.setattr(module, "build", lambda *_: made)
    with pytest.raises(ValueError, match=r"class 'upsilon' of data set 'greek' has no .* 'val'"):
        prepare("greek", tmp_path / "greek", image_size=16)


def test_the_same_image_in_two_splits_is_refused(small, tmp_path, monkeypatch):
    made = list(build(small, 16))
    made[-1] = (made[-1][0], made[0][1])
    monkeypatch.setattr(module, "build", lambda *_: made)
    with pytest.raises(ValueError, match=r"rows 0 \(train\) and 47 \(test\) .* are the same image"):
        prepare("greek", tmp_path / "greek", image_size=16)
    assert list(tmp_path.iterdir()) == []
