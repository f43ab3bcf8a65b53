import numpy as np
from sklearn.datasets import load_digits

from lqf.data.digits import read_digits


def test_all_digits_are_read_in_order_with_their_labels():
    images, labels = read_digits(24)
    assert images.shape == (1797, 24, 24, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, load_digits().target)


def test_an_enlarged_digit_averages_back_to_the_original():
    images, _ = read_digits(24)
    small = images[:100, :, :, 0].reshape(100, 8, 3, 8, 3).mean(axis=(2, 4))
    original = load_digits().images[:100] * 255 / 16
    assert np.corrcoef(small.ravel(), original.ravel())[0, 1] > 0.98


def test_digits_are_grey():
    images, _ = read_digits(16)
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
