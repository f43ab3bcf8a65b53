import numpy as np
import pytest
import torch

from lqf.backbones import CENTRED, IMAGENET
from lqf.data.feed import Feed
from lqf.data.packed import PackedDataset

STORED, SIDE = 12, 8


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).integers(0, 256, (20, STORED, STORED, 3), dtype=np.uint8)


@pytest.fixture
def mapped(array, tmp_path):
    np.save(tmp_path / "images.npy", array)
    return np.load(tmp_path / "images.npy", mmap_mode="r")


def reference(image, corner, flipped, normalisation=CENTRED):
    """One image as anyone would write it, 3 × H × W."""
    y, x = corner
    crop = image[y : y + SIDE, x : x + SIDE].astype(np.float32)
    crop = crop[:, ::-1] if flipped else crop
    mean, deviation = (
        np.array(v, np.float32) for v in (normalisation.mean, normalisation.deviation)
    )
    return ((crop / np.float32(255) - mean) / deviation).transpose(2, 0, 1)


@pytest.mark.parametrize("normalisation", [CENTRED, IMAGENET])
def test_the_middle_is_cut_out_and_normalised(array, mapped, normalisation):
    rows = np.array([4, 17, 0])

    for stored in (array, mapped):
        images = Feed(stored, rows, size=SIDE, normalisation=normalisation)[torch.tensor([1, 0])]

        expected = [reference(array[row], (2, 2), False, normalisation) for row in (17, 4)]
        np.testing.assert_array_equal(images.numpy(), np.stack(expected))
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_part_of_a_mapping_is_read_as_that_part(array, mapped):
    feed = Feed(mapped[5:], np.array([0, 3]), size=SIDE)

    np.testing.assert_array_equal(feed[1].numpy(), reference(array[8], (2, 2), False))


def test_crops_and_flips_are_those_drawn(array, mapped):
    feed = Feed(mapped, np.arange(20), size=SIDE).augmented(seed=3, epoch=1)
    images = feed[:].numpy()

    found = []
    for n, image in enumerate(images):
        every = [
            (y, x, flipped)
            for y in range(STORED - SIDE + 1)
            for x in range(STORED - SIDE + 1)
            for flipped in (False, True)
            if np.array_equal(image, reference(array[n], (y, x), flipped))
        ]
        assert len(every) == 1
        found += every
    ys, xs, flips = map(set, zip(*found, strict=True))
    assert len(ys) > 2
    assert len(xs) > 2
    assert flips == {False, True}


def test_what_is_drawn_depends_on_seed_and_epoch_only(mapped):
    feed = Feed(mapped, np.arange(20), size=SIDE)
    first = feed.augmented(0, 1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))

    whole = first[:]

    torch.testing.assert_close(feed.augmented(0, 1)[:], whole, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(list(first.split(3))), whole, rtol=0, atol=0)
    parts = torch.cat([first[part] for part in order.split(7)])
    torch.testing.assert_close(parts, whole[order], rtol=0, atol=0)
    torch.testing.assert_close(first.take(order[:5])[:], whole[order[:5]], rtol=0, atol=0)
    assert not torch.equal(feed.augmented(0, 2)[:], whole)
    assert not torch.equal(feed.augmented(1, 1)[:], whole)


def test_without_room_only_flips_are_drawn(array):
    whole = Feed(array, np.arange(20))
    plain, drawn = whole[:], whole.augmented(0, 1)[:]

    same = [torch.equal(a, b) for a, b in zip(plain, drawn, strict=True)]
    turned = [torch.equal(a.flip(2), b) for a, b in zip(plain, drawn, strict=True)]
    assert all(a or b for a, b in zip(same, turned, strict=True))
    assert 0 < sum(same) < 20


def test_shape_says_what_would_be_given_out(mapped):
    feed = Feed(mapped, np.arange(5), size=SIDE, dtype=torch.float64, channels_last=False)

    assert len(feed) == 5
    assert feed.shape == feed[:].shape == (5, 3, SIDE, SIDE)
    assert feed.nbytes == feed[:].nbytes
    assert feed[:].dtype == feed.dtype == torch.float64
    assert feed[:].is_contiguous()


def test_a_packed_data_set_feeds_what_its_tensors_are(array, mapped):
    data = PackedDataset("x", ("a",), mapped, np.zeros(20, np.int64), np.array(["train"] * 20), ())
    rows = np.array([3, 1])

    fed = data.feed(rows)[:]

    torch.testing.assert_close(fed, data.tensors(rows)[0], rtol=0, atol=0)


def test_images_larger_than_those_stored_are_refused(mapped):
    with pytest.raises(ValueError, match=r"image_size is 13.*12 pixels.*stored_size"):
        Feed(mapped, np.arange(3), size=13)


def test_rows_beyond_the_array_are_refused(mapped):
    with pytest.raises(ValueError, match="20"):
        Feed(mapped, np.array([20]))


def test_a_file_that_ends_early_is_told(array, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, array)
    mapped = np.load(path, mmap_mode="r")
    feed = Feed(mapped, np.arange(20))
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 1)

    assert feed[18].shape == (3, STORED, STORED)
    with pytest.raises(OSError, match="ends before image 19"):
        feed[19]
