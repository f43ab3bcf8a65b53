import hashlib
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from lqf.data.decode import decode
from lqf.data.listing import Entry, Listing
from lqf.data.pack import UndecodableFile, pack
from lqf.data.prepare import write_listing


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    rng = np.random.default_rng(0)
    for n in range(300):
        pixels = rng.integers(0, 255, (18 + n % 5, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{n:03d}.png")
    return root


def _pack(root, paths, target, **options):
    return pack(root, paths, target, 16, **options)


def test_rows_are_the_images_in_their_order(images, tmp_path):
    paths = [f"{n:03d}.png" for n in range(99, -1, -1)]
    digests, _ = _pack(images, paths, tmp_path / "a.npy", workers=1)
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (100, 16, 16, 3)
    for row, path in enumerate(paths):
        data = (images / path).read_bytes()
        assert np.array_equal(array[row], decode(data, 16).pixels)
        assert digests[row] == hashlib.sha256(data).hexdigest()


def test_the_number_of_workers_changes_nothing(images, tmp_path):
    paths = sorted(path.name for path in images.iterdir())
    one = _pack(images, paths, tmp_path / "one.npy", workers=1)
    two = _pack(images, paths, tmp_path / "two.npy", workers=2)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    assert one == two


def test_a_file_that_is_gone_since_it_was_listed_is_named(images, tmp_path):
    with pytest.raises(
        UndecodableFile, match=r"gone\.png cannot be read .* when the images were listed"
    ):
        _pack(images, ["000.png", "gone.png"], tmp_path / "a.npy", workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_decoded_is_named(images, tmp_path, workers):
    (images / "150.png").write_bytes(b"\x89PNG is not enough")
    paths = sorted(path.name for path in images.iterdir())
    with pytest.raises(UndecodableFile, match=r"^150\.png cannot be decoded: "):
        _pack(images, paths, tmp_path / "a.npy", workers=workers)


def test_memory_does_not_grow_with_the_number_of_images(images, tmp_path):
    def peak(number):
        paths = [f"{n % 100:03d}.png" for n in range(number)]
        tracemalloc.start()
        pack(images, paths, tmp_path / "a.npy", 128, workers=1)
        return tracemalloc.get_traced_memory()[1], tracemalloc.stop()

    few, many = peak(32)[0], peak(640)[0]
    assert many < few + 1_000_000, "600 images of 49 kB were added"


def test_the_description_tells_what_was_odd(images, tmp_path):
    whole = (images / "000.png").read_bytes()
    (images / "001.png").write_bytes(whole)
    (images / "003.png").write_bytes(whole[: len(whole) * 3 // 4])
    splits = ["train", "test", "train", "val"]
    entries = tuple(Entry(f"{n:03d}.png", 0, split) for n, split in enumerate(splits))
    listing = Listing(("only",), entries, 5, {"rubbish": 1, "nothing": 0})
    folder = tmp_path / "out"
    folder.mkdir()
    about = {"name": "odd", "title": "Odd"}
    write_listing(listing, images, folder, 16, about, workers=1)
    description = json.loads((folder / "dataset.json").read_text())
    assert description["truncated"] == ["003.png"]
    assert description["duplicates_across_splits"] == [["000.png", "001.png"]]
    assert description["left_out"] == {"rubbish": 1}
    assert description["images"] == {"train": 2, "val": 1, "test": 1}
    assert Image.open(folder / "contact_sheet.png").size[0] > 0
