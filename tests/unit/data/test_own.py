import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from lqf import documents
from lqf.config_sections import OwnKeys
from lqf.data.listing import WrongListing
from lqf.data.own import fingerprint, list_own, problems
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare_own


def _image(path, level=100, size=(20, 18)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 50, 50)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    for label, name in enumerate(("Ähre", "bird", "cat")):
        for n in range(10):
            _image(root / "train" / name / f"{n}.jpg", 40 + 80 * label)
    return root


def _prepare(own, tmp_path):
    prepare_own("mine", own, tmp_path / "data", 16, workers=1)
    return PackedDataset.load(tmp_path / "data")


def test_missing_splits_are_drawn_out_of_training(folder, tmp_path):
    data = _prepare(OwnKeys(folder=str(folder)), tmp_path)
    assert data.classes == ("bird", "cat", "Ähre"), "by code point, whatever the locale"
    assert [len(data.split_of(split)) for split in ("train", "val", "test")] == [21, 3, 6]
    for label, level in enumerate((120, 200, 40)):
        rows = np.flatnonzero(data.labels == label)
        assert np.abs(data.images[rows, 8, 8, 0].astype(int) - level).max() < 5


def test_a_test_split_is_kept_and_other_files_are_counted(folder, tmp_path):
    for name in ("Ähre", "bird", "cat"):
        _image(folder / "test" / name / "deep" / "x.PNG")
    (folder / "train" / "cat" / "notes.txt").write_text("")
    (folder / "train" / "cat" / "._0.jpg").write_text("")
    (folder / "train" / ".cache").mkdir()
    data = _prepare(OwnKeys(folder=str(folder)), tmp_path)
    assert {data.sources[row] for row in data.split_of("test")} == {
        f"test/{name}/deep/x.PNG" for name in ("Ähre", "bird", "cat")
    }
    about = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert about["left_out"] == {
        "hidden files and folders (first train/.cache)": 2,
        "no images (first train/cat/notes.txt)": 1,
    }


def _index(path, rows, columns=("path", "class", "split")):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])
    return path


def test_an_index_is_read_whatever_the_order_of_its_lines(folder, tmp_path):
    rows = [
        (f"train/{name}/{n}.jpg", name.upper(), "test" if n > 7 else "")
        for name in ("bird", "cat")
        for n in range(10)
    ]
    forward, _ = list_own("mine", OwnKeys(index=str(_index(folder / "a.csv", rows))))
    backward, root = list_own("mine", OwnKeys(index=str(_index(folder / "b.csv", rows[::-1]))))
    assert root == folder
    assert forward.classes == ("BIRD", "CAT")
    assert set(forward.entries) == set(backward.entries)
    assert {one.split for one in forward.entries} == {"train", "val", "test"}


def test_paths_may_be_absolute(folder, tmp_path):
    rows = [(folder / "train" / "cat" / f"{n}.jpg", "cat") for n in range(10)]
    rows += [(folder / "train" / "bird" / f"{n}.jpg", "bird") for n in range(10)]
    index = _index(tmp_path / "index.csv", rows, ("path", "class"))
    assert len(_prepare(OwnKeys(index=str(index)), tmp_path).labels) == 20


@pytest.mark.parametrize(
    ("rows", "columns", "sentence"),
    [
        ([("x", "a")], ("file", "class"), "has no column 'path'"),
        ([("train/cat/0.jpg", "a", "dev")], ("path", "class", "split"), "line 2 .* split 'dev'"),
        ([("train/cat/0.jpg", "")], ("path", "class"), "line 2 .* has no class"),
        ([("train/cat/0.jpg", "a"), ("x",)], ("path", "class"), "line 3 .* has no class"),
        ([(), ("train/cat/0.jpg",)], ("class", "path"), "line 3 .* names ''"),
        ([("train/cat/99.jpg", "a")], ("path", "class"), "line 2 .* names 'train/cat/99.jpg'"),
        ([("train/cat/0.jpg", "a")], ("path", "class"), "has 1 class .* needs at least 2"),
        (
            [("train/cat/0.jpg", "a"), ("train/cat/1.jpg", "b")],
            ("path", "class"),
            "class 'a' .* has no image in split",
        ),
        (
            [(f"train/cat/{n}.jpg", "a") for n in range(3)]
            + [(f"train/bird/{n}.jpg", "b") for n in range(3)]
            + [("./train/cat/0.jpg", "b")],
            ("path", "class"),
            "lists 'train/cat/0.jpg' more than once",
        ),
        ([("train/cat/0.jpg", "a")], ("path", "class", "class"), "a column twice"),
        ([], ("path", "class"), "has no rows below its columns"),
        ([], (), "has no column 'path'"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(folder, rows, columns, sentence):
    with pytest.raises(WrongListing, match=sentence):
        list_own("mine", OwnKeys(index=str(_index(folder / "a.csv", rows, columns))))


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_an_index_in_another_encoding_is_named(encoding, tmp_path):
    index = tmp_path / "index.csv"
    index.write_bytes("path,class\na.jpg,Käfer\n".encode(encoding))
    with pytest.raises(WrongListing, match=r"index\.csv .* is not UTF-8 .* save it as 'CSV UTF-8'"):
        list_own("mine", OwnKeys(index=str(index)))


@pytest.mark.parametrize(
    "content", ['path,class\n"a.jpg,x\n', 'path,class\n"a"b,x\n', "path,class\na\0,x"]
)
def test_an_index_that_is_no_table_is_named(content, tmp_path):
    index = tmp_path / "index.csv"
    index.write_text(content)
    with pytest.raises(WrongListing, match=r"index\.csv"):
        list_own("mine", OwnKeys(index=str(index)))


def test_what_systems_leave_behind_is_passed_over_and_counted(folder):
    for stray in (
        ".ipynb_checkpoints/0.jpg",
        "@eaDir/1.jpg/THUMB.jpg",
        "__MACOSX/2.jpg",
        "._3.jpg",
    ):
        _image(folder / "train" / "cat" / stray)
    listing, _ = list_own("mine", OwnKeys(folder=str(folder)))
    assert len(listing.entries) == 30
    assert listing.left_out == {"hidden files and folders (first train/cat/._3.jpg)": 4}


def test_images_by_other_names_are_used_or_told(folder):
    cat = folder / "train" / "cat"
    for name in ("a.jfif", "b.jpe", "c.unknown", "d"):
        (cat / name).write_bytes((cat / "0.jpg").read_bytes())
    Image.new("RGB", (20, 20)).save(cat / "e.avif")
    (cat / "f.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    _image(folder / "train" / "beside.jpg")
    _image(folder / "top.jpg")
    _image(folder / "extra" / "g.jpg")
    listing, root = list_own("mine", OwnKeys(folder=str(folder)))
    assert {f"train/cat/{one}" for one in ("a.jfif", "b.jpe", "c.unknown", "d", "e.avif")} < {
        entry.path for entry in listing.entries
    }
    assert listing.left_out == {
        "beside the folders train, val and test (first extra)": 2,
        "beside the folders of the classes (first train/beside.jpg)": 1,
        "HEIC images, which have to be saved as JPEG (first train/cat/f.heic)": 1,
    }
    assert list(problems(listing, root)) == []


def test_splits_by_other_names_are_understood(folder):
    for top in ("valid", "Test"):
        for name in ("Ähre", "bird", "cat"):
            _image(folder / top / name / "x.png")
    listing, _ = list_own("mine", OwnKeys(folder=str(folder)))
    assert {entry.path for entry in listing.entries if entry.split == "val"} == {
        f"valid/{name}/x.png" for name in ("Ähre", "bird", "cat")
    }
    _image(folder / "test" / "cat" / "y.png")
    with pytest.raises(WrongListing, match="which are both for test: put their images together"):
        list_own("mine", OwnKeys(folder=str(folder)))


def test_a_link_that_leads_nowhere_is_named(folder):
    (folder / "train" / "cat" / "gone.jpg").symlink_to(folder / "elsewhere.jpg")
    with pytest.raises(
        WrongListing, match=r"cat/gone\.jpg is a link to .*elsewhere\.jpg', which is not"
    ):
        list_own("mine", OwnKeys(folder=str(folder)))


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(WrongListing, match=r"mine cannot be read \(Permission denied\)"):
        list_own("mine", OwnKeys(folder=str(folder)))


def test_a_name_that_is_no_text_is_refused(folder):
    os.mkdir(os.fsencode(folder / "train") + b"/\xff")
    with pytest.raises(WrongListing, match="is not UTF-8: rename it"):
        list_own("mine", OwnKeys(folder=str(folder)))


def test_a_folder_without_training_images_is_told_how_to_be(tmp_path):
    with pytest.raises(WrongListing, match=r"has no folder .*train: put the images into .*CLASS"):
        list_own("mine", OwnKeys(folder=str(tmp_path)))


def test_a_class_that_is_only_tested_on_is_refused(folder):
    _image(folder / "test" / "dog" / "0.jpg")
    with pytest.raises(WrongListing, match="class 'dog' in test but not in train"):
        list_own("mine", OwnKeys(folder=str(folder)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "either the key 'folder' or the key 'index'"),
        ({"folder": "a", "index": "b"}, "either the key 'folder' or the key 'index'"),
        (
            {"folder": "a", "tests": 0.1},
            "key 'tests' does not exist: did you mean 'test'[?] allowed are folder, index",
        ),
        ({"folder": "a", "test": 1.0}, "'test' is 1.0: it must be less than 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        documents.validated(OwnKeys, settings, "own data key")


def test_a_failure_leaves_nothing_behind(folder, tmp_path):
    (folder / "train" / "cat" / "0.jpg").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"train/cat/0\.jpg cannot be decoded: it is not an image"):
        _prepare(OwnKeys(folder=str(folder)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_files_that_are_no_images_are_told_before_decoding(folder):
    assert list(problems(*list_own("mine", OwnKeys(folder=str(folder))))) == []
    (folder / "train" / "bird" / "3.jpg").write_text("<html>")
    (folder / "train" / "cat" / "4.jpg").write_bytes(b"")
    [sentence] = problems(*list_own("mine", OwnKeys(folder=str(folder))))
    assert sentence.startswith(str(folder / "train" / "bird" / "3.jpg"))
    assert "no image that can be read (2 files like it)" in sentence


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_usual_formats_look_like_images(folder, format):
    Image.new("RGB", (9, 9)).save(folder / "train" / "bird" / "3.jpg", format=format)
    assert list(problems(*list_own("mine", OwnKeys(folder=str(folder))))) == []


def test_fingerprint_changes_with_the_images_alone(folder):
    def current():
        return fingerprint(*list_own("mine", OwnKeys(folder=str(folder))))

    before = current()
    assert current() == before
    (folder / "notes.txt").write_text("")
    assert current() == before
    _image(folder / "train" / "cat" / "new.jpg")
    assert current() != before


@pytest.mark.parametrize(
    ("group", "sentence"), [("(", "it is no pattern"), ("a", "in parentheses")]
)
def test_a_bad_group_is_refused(group, sentence, folder):
    with pytest.raises(ValueError, match=sentence):
        OwnKeys(folder=str(folder), group=group)
