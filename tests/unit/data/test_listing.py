import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lqf.data.layouts import read_layout
from lqf.data.listing import Entry, Listing, WrongListing, assign, class_names, draw
from lqf.data.published import SplitRule, read

CHEST = dataclasses.replace(
    read().get("chest_xray"),
    found=None,
    images={"train": 20, "test": 6},
    per_class={"train": (10, 10)},
)


def _listing(train=10, test=3, classes=("NORMAL", "PNEUMONIA")):
    entries = [
        Entry(f"{split}/{name}/p{n // 2}_{n}.jpg", label, split)
        for label, name in enumerate(classes)
        for split, number in (("train", train), ("test", test))
        for n in range(number)
    ]
    return Listing(tuple(classes), tuple(entries), len(entries))


def _paths(listing, split):
    return {entry.path for entry in listing.entries if entry.split == split}


@settings(deadline=None)
@given(st.permutations(_listing().entries), st.integers(0, 5))
def test_a_draw_does_not_depend_on_the_order_of_files(entries, seed):
    rule = SplitRule("fraction", test=0.3, seed=seed)
    drawn = draw(_listing(), rule, "train", "val")
    again = draw(dataclasses.replace(_listing(), entries=tuple(entries)), rule, "train", "val")
    assert _paths(drawn, "val") == _paths(again, "val")
    assert len(_paths(drawn, "val")) == 6
    assert _paths(drawn, "test") == _paths(_listing(), "test")


def test_another_seed_draws_others():
    drawn = [
        draw(_listing(), SplitRule("fraction", test=0.3, seed=s), "train", "val") for s in (0, 1)
    ]
    assert _paths(drawn[0], "val") != _paths(drawn[1], "val")


def test_a_number_per_class_leaves_exactly_that_many():
    listing = draw(_listing(), SplitRule("per_class", train=4), "train", "test")
    for label in range(2):
        left = [one for one in listing.entries if (one.label, one.split) == (label, "train")]
        assert len(left) == 4


def test_files_of_a_group_stay_together():
    rule = SplitRule("fraction", test=0.3, seed=0, group=r"(p\d+)_")
    listing = draw(_listing(), rule, "train", "val")
    groups = [
        {path.rsplit("/", 1)[1].split("_")[0] for path in _paths(listing, s)}
        for s in ("train", "val")
    ]
    assert not groups[0] & groups[1]
    assert {one.label for one in listing.entries if one.split == "val"} == {0, 1}


def test_validation_images_come_out_of_training():
    listing = assign(_listing(), CHEST)
    assert len(_paths(listing, "train")) + len(_paths(listing, "val")) == 20
    assert len(_paths(listing, "test")) == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"per_class": {"train": (9, 9)}},
            "class 'NORMAL' .* has 10 images in split 'train'.* says 9",
        ),
        (
            {"per_class": {"test": (4, 8)}},
            "class 'NORMAL' .* has 3 images in split 'test'.* 4 to 8",
        ),
        (
            {"per_class": {"test": {"NORMAL": 3, "PNEUMONIA": 4}}},
            "class 'PNEUMONIA' .* has 3 images in split 'test'",
        ),
        ({"class_totals": {"PNEUMONIA": 12}}, "class 'PNEUMONIA' .* has 13 images, .* says 12"),
        (
            {"images": {"train": 21, "test": 6}},
            "has 20 images in split 'train' .*'NORMAL'.* says 21",
        ),
        ({"classes": 3}, "has 2 classes, but the catalogue says 3"),
        ({"found": 30}, "hold 26 images, but the catalogue says 30"),
    ],
)
def test_numbers_that_differ_from_the_catalogue_are_refused(change, sentence):
    with pytest.raises(WrongListing, match=sentence):
        assign(_listing(), dataclasses.replace(CHEST, **change))


def test_a_class_without_an_image_in_a_split_is_refused():
    listing = _listing()
    entries = tuple(one for one in listing.entries if (one.label, one.split) != (1, "test"))
    entry = dataclasses.replace(CHEST, images={"train": 20, "test": 3})
    with pytest.raises(WrongListing, match=r"class 'PNEUMONIA' .* has no image in split 'test'"):
        assign(dataclasses.replace(listing, entries=entries), entry)


def test_a_file_that_is_listed_twice_is_refused():
    listing = _listing()
    entries = (*listing.entries[:-1], listing.entries[-2])
    with pytest.raises(WrongListing, match="more than once"):
        assign(dataclasses.replace(listing, entries=entries), CHEST)


def test_readable_names_give_way_where_they_would_coincide():
    keys = ["n1-dog", "n2-dog"]
    assert class_names(keys, lambda key: key.partition("-")[2]) == ("n1-dog", "n2-dog")
    assert class_names(keys, lambda key: key.partition("-")[0]) == ("n1", "n2")


@pytest.mark.parametrize(("tolerated", "lost"), [(2, 2), (2, 3), (0, 1)])
def test_a_copy_may_lack_as_many_listed_images_as_the_catalogue_tolerates(
    tolerated, lost, tmp_path
):
    dataset = dataclasses.replace(
        read().get("mit67"),
        classes=2,
        images={"train": 20, "test": 8},
        per_class={"train": (10, 10)},
        missing=tolerated,
    )
    for split, number in (("Train", 10), ("Test", 4)):
        names = [f"{key}/{split}{n}.jpg" for key in ("attic", "bar") for n in range(number)]
        (tmp_path / f"{split}Images.txt").write_text("\n".join(names))
        for name in names[lost if split == "Train" else 0 :]:
            (tmp_path / "Images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "Images" / name).touch()
    if lost > tolerated:
        sentence = (
            rf"{lost} of 28 listed images .* first is 'Images/attic/Train0\.jpg' of class 'attic'"
        )
        with pytest.raises(WrongListing, match=sentence):
            read_layout(tmp_path, dataset)
        return
    listing = assign(read_layout(tmp_path, dataset), dataset)
    assert len(listing.entries) == 28 - lost
    assert listing.left_out["listed, but missing (first Images/attic/Train0.jpg)"] == lost
