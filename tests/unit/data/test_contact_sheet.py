import numpy as np

from lqf.data.contact_sheet import contact_sheet


def _plain(colour, number=3, size=24):
    return np.full((number, size, size, 3), colour, dtype=np.uint8)


def test_every_class_and_every_image_is_on_the_sheet():
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    sheet = np.asarray(contact_sheet("Plain", [_plain(c) for c in colours], ["r", "g", "b"]))
    for colour in colours:
        # Three tiles of 24 pixels, shown twice as large.
        assert (sheet == colour).all(axis=-1).sum() == 3 * 48 * 48


def test_at_most_ten_images_a_class_are_shown():
    sheet = np.asarray(contact_sheet("Many", [_plain((1, 2, 3), 30)], ["many"]))
    assert (sheet == (1, 2, 3)).all(axis=-1).sum() == 10 * 48 * 48


def test_many_classes_go_into_columns_and_large_images_keep_their_size():
    groups = [_plain((label, 99, 99), 1, 60) for label in range(30)]
    sheet = np.asarray(contact_sheet("Wide", groups, [f"class {n}" for n in range(30)]))
    assert sheet.shape[0] < 15 * 70
    for label in range(30):
        assert (sheet == (label, 99, 99)).all(axis=-1).sum() == 60 * 60
