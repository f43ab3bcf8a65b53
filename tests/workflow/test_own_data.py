"""Own data through the whole workflow: real photographs, real ImageNet weights, where they are at hand."""

from __future__ import annotations

import csv
import os
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lqf import config

ROOT = Path(__file__).parents[2]
OWN = ROOT / "config/own-data.yaml"
REAL = Path(os.environ.get("LQF_REALBENCH", ROOT.parent / "shared" / "realbench"))
WEIGHTS = REAL / "weights" / "imagenet_squeezenet1_1.safetensors"


Run = Callable[..., subprocess.CompletedProcess[str]]


def images(folder: Path, count: int = 10) -> Path:
    """A folder of the user: two classes, no split."""
    from PIL import Image

    for label, name in enumerate(("bird", "cat")):
        (folder / "train" / name).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", (40, 30), (90 * label, 5 * n, 50)).save(
                folder / "train" / name / f"{n}.jpg"
            )
    return folder


def overlay(folder: Path, **changes: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(changes))
    return str(path)


def test_example_is_accepted_once_its_folder_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = config.load(ROOT / "config/config.yaml", OWN)
    with pytest.raises(config.ConfigError, match=r"'own.mine' cannot be used: .*no folder images"):
        config.resolve(example)
    images(tmp_path / "images")

    assert set(config.resolve(example)["experiments"]) == {"comparison"}


def test_plan_follows_the_images(snakemake: Run, tmp_path: Path) -> None:
    images(tmp_path / "images")
    done = snakemake("--configfile", str(OWN), "-n")
    assert done.returncode == 0, done.stdout
    wanted = {"prepare": 1, "download_weights": 1, "backbone": 2, "train": 18, "figure": 1}
    for rule, number in wanted.items():
        assert [rule, str(number)] in [line.split() for line in done.stdout.splitlines()]
    assert "tour" not in done.stdout


@pytest.mark.parametrize(
    ("own", "damage", "parts"),
    [
        ({"folder": "nowhere"}, None, ["'own.mine'", "no folder nowhere/train"]),
        ({"foldr": "images"}, None, ["'own.mine.foldr'", "did you mean 'folder'?"]),
        ({"index": "list.csv"}, None, ["'own.mine'", "either the key 'folder' or the key 'index'"]),
        ({}, "empty class", ["'own.mine'", "'dog'"]),
        ({}, "no image", ["images/train/cat/3.jpg is no image that can be read"]),
        ({"test": 2}, None, ["'own.mine.test' is 2", "less than 1"]),
    ],
    ids=lambda one: str(one)[:25],
)
def test_what_is_wrong_is_one_sentence_before_any_job(
    own: dict[str, Any], damage: str | None, parts: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "images")
    if damage == "empty class":
        (tmp_path / "images/train/dog").mkdir()
    elif damage == "no image":
        (tmp_path / "images/train/cat/3.jpg").write_text("<html>")
    changed = config.merge(config.load(ROOT / "config/config.yaml", OWN), {"own": {"mine": own}})

    with pytest.raises(config.ConfigError) as caught:
        config.resolve(changed)

    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert len(message.splitlines()) == 1


def test_more_images_than_there_are_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "images")
    kshot = {"datasets": ["mine"], "methods": ["nlft", "lqf"], "shots": [1, 8], "seeds": [0]}
    changed = config.merge(
        config.load(ROOT / "config/config.yaml", OWN), {"experiments": {"kshot": kshot}}
    )

    with pytest.raises(config.ConfigError, match=r"shots\[1\]' is 8, but 'mine' has only 7"):
        config.resolve(changed)


def some_of(archive: Path, folder: Path, classes: int = 6, images: int = 12) -> None:
    """Extract some images of the first classes of an archive NAME/{train,test}/CLASS/FILE."""
    taken: Counter[str] = Counter()
    names: set[str] = set()
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            place, _, _ = member.name.rpartition("/")
            name = place.rpartition("/")[2]
            if (
                member.isfile()
                and (name in names or len(names) < classes)
                and taken[place] < images
            ):
                names.add(name)
                taken[place] += 1
                tar.extract(member, folder, filter="data")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared/realbench is not there")
def test_real_images_with_real_weights(snakemake: Run, tmp_path: Path) -> None:
    for name in ("caltech101_20", "chest_xray_2"):
        some_of(REAL / "datasets" / f"{name}.tar", tmp_path)
    small = {"epochs": 6, "weight_decays": [1.0e-4]}
    mine = overlay(
        tmp_path,
        scale="real",
        seeds=[0],
        seeds_together=True,
        image_size=64,
        train_per_class=4,
        datasets=["caltech", "xray"],
        own={
            "mine": {"folder": "chest_xray_2"},
            "caltech": {"folder": "caltech101_20", "title": "Caltech, six classes"},
            "xray": {"folder": "chest_xray_2", "title": "Chest X-ray"},
        },
        backbone={"network": "squeezenet1_1", "weights": {"relu": str(WEIGHTS)}},
        training={
            "nonlinear": {**small, "rates": [0.001], "batch_norm": ["frozen"]},
            "sgd": {**small, "rates": [0.01]},
            "exact": {"max_passes": 30},
        },
        experiments={
            "comparison": {"datasets": ["caltech", "xray"], "methods": ["nlft", "lqf_exact", "fc"]}
        },
    )

    done = snakemake("--configfile", str(OWN), mine, "--cores", "2")

    assert done.returncode == 0, done.stdout[-4000:]
    with open(tmp_path / "figures/real/table1.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"Caltech, six classes", "Chest X-ray"} <= {row["title"] for row in rows}
    with open(tmp_path / "results/real/comparison.csv", newline="", encoding="utf-8") as file:
        errors = {
            (row["dataset"], row["method"]): float(row["err_mean"]) for row in csv.DictReader(file)
        }
    # Far below the 83 % of guessing: the weights are ImageNet's and the images are normalised for them.
    assert errors["caltech", "lqf_exact"] < 40
    assert errors["caltech", "fc"] < 40
    assert (tmp_path / "figures/real/figure1_left.pdf").is_file()
    again = snakemake("--configfile", str(OWN), mine, "-n")
    assert "Nothing to be done" in again.stdout
    known = min((tmp_path / "chest_xray_2" / "train").rglob("*.jpg"))
    known.with_name("new.jpg").write_bytes(known.read_bytes())
    lines = [
        line.split() for line in snakemake("--configfile", str(OWN), mine, "-n").stdout.splitlines()
    ]
    assert ["prepare", "1"] in lines
    assert ["train", "3"] in lines, "the jobs of the data set that changed, and no others"
