import dataclasses
import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from lqf.data import catalogue
from lqf.data.build import build, count, read_digits
from lqf.data.catalogue import DEMO, SPLITS

FIRST = """
import hashlib, itertools
from lqf.data import catalogue
from lqf.data.build import build
for _, image in itertools.islice(build(catalogue.get("accents"), 24), 8):
    print(hashlib.sha256(image.tobytes()).hexdigest())
"""


def test_another_process_with_another_hash_seed_draws_the_same_images():
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    here = [
        hashlib.sha256(image.tobytes()).hexdigest()
        for _, image in itertools.islice(build(catalogue.get("accents"), 24), 8)
    ]
    assert here == there


def test_an_image_does_not_depend_on_the_size_of_the_splits_before_it():
    spec = catalogue.get("greek")
    fewer = dataclasses.replace(spec, per_class={"train": 2, "val": 1, "test": 1})
    more = dataclasses.replace(spec, per_class={"train": 3, "val": 1, "test": 1})
    for (_, one), (_, other) in zip(build(fewer, 16), build(more, 16), strict=False):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["cyrillic", "textures"])
def test_classes_take_turns_and_splits_have_their_numbers(name):
    wanted = {"train": 3, "val": 1, "test": 2}
    spec = dataclasses.replace(DEMO[name], per_class=wanted)
    samples = [entry for entry, _ in build(spec, 16)]
    classes = len(spec.classes)
    assert [sample.label for sample in samples] == list(range(classes)) * 6
    assert Counter(sample.split for sample in samples) == {
        split: classes * wanted[split] for split in SPLITS
    }
    assert count(spec) == len(samples) == 6 * classes


def test_digits_are_all_used_once_and_the_rest_is_for_training():
    samples = [entry for entry, _ in build(catalogue.get("digits"), 16)]
    sources = {sample.path for sample in samples}
    assert len(samples) == len(sources) == 1797
    numbers = Counter((sample.split, sample.label) for sample in samples)
    assert all(numbers["val", label] == 20 for label in range(10))
    assert all(numbers["test", label] == 50 for label in range(10))
    assert min(numbers["train", label] for label in range(10)) >= 100
    assert count(catalogue.get("digits")) is None


def test_digits_keep_image_and_label_together():
    from sklearn.datasets import load_digits

    target = load_digits().target
    for entry, _ in build(catalogue.get("digits"), 16):
        assert target[int(entry.path.split()[-1])] == entry.label


def test_digits_are_grey_and_an_enlarged_one_averages_back_to_the_original():
    from sklearn.datasets import load_digits

    images, labels = read_digits(24)
    assert images.shape == (1797, 24, 24, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, load_digits().target)
    np.testing.assert_array_equal(images, np.broadcast_to(images[..., :1], images.shape))
    small = images[:100, :, :, 0].reshape(100, 8, 3, 8, 3).mean(axis=(2, 4))
    original = load_digits().images[:100] * 255 / 16
    assert np.corrcoef(small.ravel(), original.ravel())[0, 1] > 0.98
