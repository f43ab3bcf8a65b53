"""Miniature archives with the true layouts, numbers, rubbish and odd files of the published data sets.

Every image is a few pixels of the colour that stands for its label, so a wrong label can be seen in
the prepared pixels. Only the images are small: names, lists and counts are those of the originals, or
a k-th part of them where there are too many to make them all in every run of the tests.
"""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

Files = Iterable[tuple[str, bytes]]
RUBBISH = b"\x00\x05\x16\x07 not an image"


def colour(label: int) -> tuple[int, int, int]:
    """The colour of a label, 40 or more from any other in one channel."""
    return 20 + 40 * (label % 6), 20 + 40 * (label // 6 % 6), 20 + 30 * (label // 36)


@cache
def _picture(label: int, kind: str) -> bytes:
    size = (12, 30) if kind == "banner" else (12, 10)
    image = Image.new("RGB", size, colour(label))
    if kind == "banner":
        image.paste((0, 0, 0), (0, 10, 12, 30))
        kind = "JPEG"
    if kind in {"grey", "L"}:
        image, kind = image.convert("L"), "JPEG"
    if kind == "RGBA":
        image, kind = image.convert("RGBA"), "PNG"
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def picture(label: int, number: int, kind: str = "JPEG") -> bytes:
    """An image file; the number makes its bytes unique."""
    data = _picture(label, kind)
    if data[:2] == b"\xff\xd8":
        return data[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + data[2:]
    return data + number.to_bytes(4, "big")


def spread(total: int, classes: int) -> list[int]:
    """Numbers of images per class that add up, as even as possible."""
    return [total // classes + (label < total % classes) for label in range(classes)]


def uneven(total: int, classes: int, low: int, high: int) -> list[int]:
    """Numbers of images per class that add up, some of them `low` and `high`."""
    numbers = spread(total, classes)
    numbers[0], numbers[1] = low, high
    rest = total - low - high
    numbers[2:] = spread(rest, classes - 2)
    return numbers


def tar(path: Path, files: Files) -> None:
    mode = "w:gz" if path.name.endswith(("gz", "tgz")) else "w"
    options: dict[str, Any] = {"compresslevel": 1} if mode == "w:gz" else {}
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def pack_zip(path: Path, files: Files) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)


def _lines(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()


def _shuffled(items: Iterable[Any]) -> list[Any]:
    found = list(items)
    random.Random(5).shuffle(found)
    return found


def caltech256(folder: Path, k: int = 1) -> None:
    names = [f"{n:03d}.thing-{n}" for n in range(1, 257)]
    names[55], names[197] = "056.dog", "198.spider"
    numbers = [80 // k, 827 // k, *spread((30607 - 827 - 80 - 827) // k, 254)]
    files = [
        (f"256_ObjectCategories/{name}/{label + 1:03d}_{n:04d}.jpg", picture(label, n))
        for label, name in enumerate(names)
        for n in range(1, numbers[label] + 1)
    ]
    files[7] = (files[7][0], picture(0, 8, "grey"))
    top = "256_ObjectCategories"
    files += [
        (f"{top}/257.clutter/257_{n:04d}.jpg", picture(0, 9_000 + n))
        for n in range(1, 827 // k + 1)
    ]
    files += [
        (f"{top}/198.spider/RENAME2", b"#!/bin/sh"),
        (f"{top}/056.dog/greg/vision309/056_0001.jpg", RUBBISH),
    ]
    tar(folder / "256_ObjectCategories.tar", _shuffled(files))


def chest_xray(folder: Path, k: int = 1) -> None:
    numbers = {("train", 0): 1349, ("train", 1): 3883, ("test", 0): 234, ("test", 1): 390}
    files: list[tuple[str, bytes]] = [("chest_xray/.DS_Store", RUBBISH)]
    for (split, label), number in numbers.items():
        place = f"chest_xray/{split}/{'PNEUMONIA' if label else 'NORMAL'}"
        files += [(f"{place}/.DS_Store", RUBBISH), (f"__MACOSX/{place}/._x.jpeg", RUBBISH)]
        for n in range(number):
            patient = f"person{n // 3}_virus_{n}" if label else f"NORMAL2-IM-{n // 2:04d}-{n:04d}"
            kind = "JPEG" if n % 20 == 0 else "grey"
            files.append(
                (f"{place}/{patient}.jpeg", picture(label, n + 9999 * (split == "test"), kind))
            )
    pack_zip(folder / "ChestXRay2017.zip", files)


def malaria(folder: Path, k: int = 1) -> None:
    files: list[tuple[str, bytes]] = []
    for label, name in enumerate(("Parasitized", "Uninfected")):
        files.append((f"cell_images/{name}/Thumbs.db", RUBBISH))
        for n in range(13779 // k):
            slide = f"C{n % 201}P{n % 201}thinF"
            path = f"cell_images/{name}/{slide}_IMG_20150619_{n:06d}a_cell_{n}.png"
            files.append((path, picture(label, n, "PNG")))
    pack_zip(folder / "cell_images.zip", files)


def _mit67(k: int) -> tuple[dict[str, bytes], list[tuple[str, bytes]]]:
    names = [f"room_{label:02d}" for label in range(67)]
    names[3] = "Tv Studio"  # blanks and capitals, as in the original lists
    lists: dict[str, list[str]] = {"TrainImages.txt": [], "TestImages.txt": []}
    files = []
    order = sorted(names)
    trains, tests = uneven(5360 // k, 67, 77 // k, 83 // k), uneven(1340 // k, 67, 17 // k, 23 // k)
    for label, name in enumerate(order):
        train, test = trains[label], tests[label]
        for n in range(train + test + 5 // k):
            path = f"{name}/{name} image{n}.jpg"
            files.append(
                (
                    f"Images/{path}",
                    picture(
                        label, 100 * label + n, "grey" if n == 4 and label % 9 == 0 else "JPEG"
                    ),
                )
            )
            if n < train:
                lists["TrainImages.txt"].append(path)
            elif n < train + test:
                lists["TestImages.txt"].append(path)
    return {name: _lines(_shuffled(lines)) for name, lines in lists.items()}, files


def mit67(folder: Path, k: int = 1) -> None:
    lists, files = _mit67(k)
    for name, content in lists.items():
        (folder / name).write_bytes(content)
    tar(folder / "indoorCVPR_09.tar", files)


def mit67_mirror(folder: Path, k: int = 1) -> None:
    """The copy with another top folder, which holds the lists too."""
    lists, files = _mit67(k)
    files = [(f"indoorCVPR_09/{name}", data) for name, data in files]
    files += [(f"indoorCVPR_09/{name}", b"another list") for name in lists]
    for name, content in lists.items():
        (folder / name).write_bytes(content)
    pack_zip(folder / "indoor-scenes-cvpr-2019.zip", files)


def oxford_pets(folder: Path, k: int = 1) -> None:
    train, test = spread(3680, 37), spread(3669, 37)
    kinds = {4: "GIF", 5: "PNG", 6: "grey", 7: "RGBA"}
    images = [(f"images/Cat_Breed_{label:02d}_{n}.mat", RUBBISH) for label, n in ((0, 1),) * 1]
    images += [(f"images/Dog_Breed_3{n}_1.mat", RUBBISH) for n in range(2)]
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    unlisted = 7390 - 3680 - 3669
    for label in range(37):
        # Numbers follow the order of names without regard to capitals, as in the original.
        name = f"{'cat' if label % 2 else 'Dog'}_Breed_{label:02d}"
        for n in range(1, train[label] + test[label] + 1):
            kind = kinds.get(n, "JPEG") if label in {0, 9} else "JPEG"
            images.append((f"images/{name}_{n}.jpg", picture(label, n, kind)))
            which = "trainval" if n <= train[label] else "test"
            lists[which].append(f"{name}_{n} {label + 1} {label % 2 + 1} {label // 2 + 1}")
        if label == 5:
            images += [
                (f"images/{name}_{9000 + n}.jpg", picture(label, n)) for n in range(unlisted)
            ]
    tar(folder / "images.tar.gz", _shuffled(images))
    annotations = [
        (f"annotations/{name}.txt", _lines(_shuffled(lines))) for name, lines in lists.items()
    ]
    annotations += [
        ("annotations/list.txt", b"#Image CLASS-ID SPECIES BREED ID"),
        ("annotations/trimaps/._cat_Breed_01_1.png", RUBBISH),
        ("annotations/trimaps/cat_Breed_01_1.png", picture(0, 0, "PNG")),
    ]
    tar(folder / "annotations.tar.gz", annotations)


def _dogs(top: str, k: int) -> tuple[list[tuple[str, bytes]], dict[str, list[str]]]:
    tests = uneven(8580 // k, 120, 48 // k, 152 // k)
    train = 100 // k
    files: list[tuple[str, bytes]] = []
    lists: dict[str, list[str]] = {"train_list": [], "test_list": []}
    for label in range(120):
        number = f"n{2085620 + 7 * label:08d}"
        for n in range(train + tests[label]):
            path = f"{number}-Some_dog_{label}/{number}_{n}.jpg"
            odd = label == 37 and n == 5
            files.append((f"{top}/{path}", picture(label, n, "PNG" if odd else "JPEG")))
            lists["train_list" if n < train else "test_list"].append(path)
    return files, lists


def _dog_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    members = []
    for name, paths in lists.items():
        cells = np.array([[path] for path in _shuffled(paths)], dtype=object)
        content = io.BytesIO()
        savemat(content, {"file_list": cells, "labels": np.ones((len(paths), 1))})
        members.append((f"{name}.mat", content.getvalue()))
    tar(folder / "lists.tar", [*members, ("file_list.mat", b"not read")])


def stanford_dogs(folder: Path, k: int = 1) -> None:
    files, lists = _dogs("Images", k)
    tar(folder / "images.tar", files)
    _dog_lists(folder, lists)


def stanford_dogs_mirror(folder: Path, k: int = 1) -> None:
    """The zip with another top folder."""
    files, lists = _dogs("stanford_dog_dataset", k)
    pack_zip(folder / "stanford_dog_dataset.zip", files)
    _dog_lists(folder, lists)


def flowers102(folder: Path, k: int = 1) -> None:
    rows = [(label, split) for label in range(102) for split in ("trnid",) * 10 + ("valid",) * 10]
    rows += [(label, "tstid") for label, n in enumerate(spread(6149, 102)) for _ in range(n)]
    rows = _shuffled(rows)
    tar(
        folder / "102flowers.tgz",
        [(f"jpg/image_{n:05d}.jpg", picture(label, n)) for n, (label, _) in enumerate(rows, 1)],
    )
    savemat(folder / "imagelabels.mat", {"labels": np.array([[label + 1 for label, _ in rows]])})
    splits = ("trnid", "valid", "tstid")
    numbers = {
        key: np.array([[n for n, (_, split) in enumerate(rows, 1) if split == key]])
        for key in splits
    }
    savemat(folder / "setid.mat", numbers)


def cub200_2011(folder: Path, k: int = 1) -> None:
    top = "CUB_200_2011"
    names = [f"{n:03d}.Some_Bird_{n}" for n in range(1, 201)]
    rows = [
        (label, n, n < train)
        for label, (train, test) in enumerate(
            zip(spread(5994 // k, 200), spread(5794 // k, 200), strict=True)
        )
        for n in range(train + test)
    ]
    paths = [f"{names[label]}/Some_Bird_{n:04d}_{label}.jpg" for label, n, _ in rows]
    numbers = _shuffled(range(1, len(rows) + 1))
    tables = {
        "images.txt": [f"{i} {path}" for i, path in zip(numbers, paths, strict=True)],
        "image_class_labels.txt": [
            f"{i} {row[0] + 1}" for i, row in zip(numbers, rows, strict=True)
        ],
        "train_test_split.txt": [
            f"{i} {int(row[2])}" for i, row in zip(numbers, rows, strict=True)
        ],
        "classes.txt": [f"{n} {name}" for n, name in enumerate(names, 1)],
        "bounding_boxes.txt": ["1 0.0 0.0 1.0 1.0"],
    }
    files = [
        (f"{top}/images/{path}", picture(row[0], i))
        for i, (path, row) in enumerate(zip(paths, rows, strict=True))
    ]
    files += [(f"{top}/{name}", _lines(_shuffled(lines))) for name, lines in tables.items()]
    files += [("attributes.txt", b"1 has_bill_shape"), (f"{top}/parts/parts.txt", b"1 back")]
    tar(folder / "CUB_200_2011.tgz", files)


def cub200_2010(folder: Path, k: int = 1) -> None:
    tests = spread(3033, 200)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    files = []
    for label in range(200):
        for n in range(15 + tests[label]):
            path = f"{label + 1:03d}.Some_Bird/Some_Bird_{label}_{n}.jpg"
            lists["train" if n < 15 else "test"].append(path)
            files.append((f"images/{path}", picture(label, n)))
    tar(folder / "images.tgz", files)
    named = [(f"lists/{name}.txt", _lines(_shuffled(lines))) for name, lines in lists.items()]
    tar(folder / "lists.tgz", named)


def fgvc_aircraft(folder: Path, k: int = 1) -> None:
    top = "fgvc-aircraft-2013b/data"
    variants = [f"7{label:02d}-100 ER" for label in range(99)] + ["F/A-18"]
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    files = []
    number = 0
    for label, variant in enumerate(sorted(variants)):
        train, test = spread(6667 // k, 100)[label], spread(3333 // k, 100)[label]
        for n in range(train + test):
            number += 1
            files.append((f"{top}/images/{number:07d}.jpg", picture(label, number, "banner")))
            lists["trainval" if n < train else "test"].append(f"{number:07d} {variant}")
    files += [
        (f"{top}/images_variant_{name}.txt", _lines(_shuffled(lines)))
        for name, lines in lists.items()
    ]
    files += [
        (f"{top}/variants.txt", _lines(_shuffled(variants))),
        (f"{top}/families.txt", b"Boeing 737"),
        ("fgvc-aircraft-2013b/README.md", b"10,200 images"),
    ]
    tar(folder / "fgvc-aircraft-2013b.tar.gz", files)


def _cars(folder: Path, k: int) -> dict[str, list[tuple[str, bytes]]]:
    """Writes the labels, returns the images; file numbers, rows and car_ims have different orders."""
    meta = np.array([[f"Maker Car {n} {1990 + n % 20}" for n in range(196)]], dtype=object)
    meta[0, 7] = "Ram C/V Cargo Van Minivan 2012"
    images: dict[str, list[tuple[str, bytes]]] = {}
    tables = {}
    counts = {"train": uneven(8144 // k, 196, 24 // k, 68 // k), "test": spread(8041 // k, 196)}
    for split, numbers in counts.items():
        labels = _shuffled(label for label, n in enumerate(numbers) for _ in range(n))
        images[split] = [
            (
                f"cars_{split}/{n:05d}.jpg",
                picture(label, n + 9999 * (split == "test"), "grey" if n == 11 else "JPEG"),
            )
            for n, label in enumerate(labels, 1)
        ]
        fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "class", "fname")]
        rows = [(1, 1, label + 1, f"{n:05d}.jpg") for n, label in enumerate(labels, 1)]
        tables[split] = np.array([_shuffled(rows)], dtype=fields)
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": tables["test"]})
    devkit = []
    unlabelled = np.array(
        [[(1, 1, row["fname"]) for row in tables["test"][0]]],
        dtype=[(name, object) for name in ("bbox_x1", "bbox_y1", "fname")],
    )
    for name, content in (
        ("cars_train_annos", {"annotations": tables["train"]}),
        ("cars_test_annos", {"annotations": unlabelled}),
        ("cars_meta", {"class_names": meta}),
    ):
        file = io.BytesIO()
        savemat(file, content)
        devkit.append((f"devkit/{name}.mat", file.getvalue()))
    tar(folder / "car_devkit.tgz", devkit)
    return images


def stanford_cars(folder: Path, k: int = 1) -> None:
    images = _cars(folder, k)
    files = [(f"stanford-cars/{name}", data) for one in images.values() for name, data in one]
    trap = [
        ("stanford-cars/cars_annos.mat", b"another order"),
        ("stanford-cars/.DS_Store", RUBBISH),
    ]
    tar(folder / "stanford-cars.tgz", [*_shuffled(files), *trap])


def stanford_cars_original(folder: Path, k: int = 1) -> None:
    """The two archives of the original home."""
    for split, files in _cars(folder, k).items():
        tar(folder / f"cars_{split}.tgz", files)


BUILDERS: dict[str, Callable[[Path, int], None]] = {
    function.__name__: function
    for function in (
        *(caltech256, chest_xray, malaria, mit67, mit67_mirror, oxford_pets, stanford_dogs),
        *(stanford_dogs_mirror, flowers102, cub200_2011, cub200_2010, fgvc_aircraft),
        *(stanford_cars, stanford_cars_original),
    )
}
