"""Folders of photographs, and which of them are the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import photographs
import pytest
from PIL import Image

from lqf.app.duplicates import find_duplicates
from lqf.app.photos import read_folder, read_images


def test_a_folder_of_classes_is_read_and_what_is_no_image_is_told(tmp_path: Path) -> None:
    folder = photographs.write_folder(tmp_path / "photos", 2)
    (folder / "green" / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    photographs.write_photo(folder / "green" / ".ipynb_checkpoints" / "0.png", 0, (0, 0, 0))

    photos = read_folder(folder, 20)

    assert photos.pixels.shape == (6, 20, 20, 3)
    assert photos.classes == tuple(sorted(photographs.COLOURS))
    assert photos.files[0] == "<b>red & co/0.png"
    assert [file for file, _ in photos.unreadable] == ["green/notes.txt"]


def test_splits_are_found_whatever_their_case(tmp_path: Path) -> None:
    photographs.write_folder(tmp_path / "Train", 2)
    photographs.write_folder(tmp_path / "valid", 1)
    photographs.write_folder(tmp_path / "test", 1)

    photos = read_folder(tmp_path, 16)

    assert [photos.splits.count(split) for split in ("train", "val", "test")] == [6, 3, 3]
    assert len(photos.split("val", "test")) == 6


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "absent", "there is no folder"),
        (lambda folder: folder, "holds no images in folders of classes"),
    ],
)
def test_a_folder_without_photographs_is_refused(tmp_path: Path, make, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_folder(make(tmp_path), 16)


def test_a_class_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    photographs.write_folder(tmp_path, 1)
    with pytest.raises(ValueError, match="which the model does not know: it knows green, cat"):
        read_folder(tmp_path, 16, ["green", "cat"])


def test_single_images_and_folders_are_read(tmp_path: Path) -> None:
    folder = photographs.write_folder(tmp_path, 1)
    photos = read_images([folder / "green", folder / "green" / "0.png"], 16)
    assert len(photos) == 2
    with pytest.raises(ValueError, match="there is no file or folder"):
        read_images([tmp_path / "absent.jpg"], 16)


def test_duplicates_are_found_as_files_re_encoded_mirrored_and_brighter(tmp_path: Path) -> None:
    folder = photographs.write_folder(tmp_path, 4)
    one = folder / "green" / "0.png"
    shutil.copy(one, folder / "green" / "copy.png")
    picture = Image.open(folder / "green" / "1.png")
    picture.save(folder / "green" / "again.jpg", quality=60)
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "green" / "mirrored.png")
    picture.point(lambda value: 20 + 0.8 * value).save(folder / "green" / "brighter.png")
    for i in range(2):
        Image.new("RGB", (48, 40), (i, i, i)).save(folder / "green" / f"plain{i}.png")

    photos = read_folder(folder, 32)
    groups, copies = find_duplicates(photos)

    group = dict(zip(photos.files, groups.tolist(), strict=True))
    exact = {file for file, same in zip(photos.files, copies, strict=True) if same}
    assert exact == {"green/0.png", "green/copy.png"}
    assert group["green/0.png"] == group["green/copy.png"] > 0
    near = {f"green/{name}" for name in ("1.png", "again.jpg", "mirrored.png", "brighter.png")}
    assert {group[file] for file in near} == {group["green/1.png"]}
    assert {file for file in group if group[file]} == exact | near
