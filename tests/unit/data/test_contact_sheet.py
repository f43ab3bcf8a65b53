import numpy as np

from lqf.data.contact_sheet import contact_sheet


def _sheet(colours, number=3, size=24, names=None):
    images = np.repeat(np.array(colours, np.uint8), number, axis=0)[:, None, None]
    images = np.broadcast_to(images, (len(images), size, size, 3))
    groups = np.arange(len(images)).reshape(len(colours), number).tolist()
    names = names or [f"class {n}" for n in range(len(colours))]
    return np.asarray(contact_sheet("Plain", images, groups, names))


def test_every_class_and_every_image_is_on_the_sheet():
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    sheet = _sheet(colours)
    for colour in colours:
        # Three tiles of 24 pixels, shown twice as large.
        assert (sheet == colour).all(axis=-1).sum() == 3 * 48 * 48


def test_at_most_ten_images_a_class_are_shown():
    assert (_sheet([(1, 2, 3)], 30) == (1, 2, 3)).all(axis=-1).sum() == 10 * 48 * 48


def test_many_classes_go_into_columns_and_large_images_become_small():
    colours = [(label, 99, 99) for label in range(30)]
    sheet = _sheet(colours, 1, 60)
    assert sheet.shape[0] < 15 * 70
    for colour in colours:
        assert (sheet == colour).all(axis=-1).sum() == 48 * 48


def test_long_names_are_cut():
    assert _sheet([(1, 2, 3)], names=["x" * 500]).shape[1] < 1000
