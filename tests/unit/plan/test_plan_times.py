"""Hours from measured times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lqf.method import METHODS
from lqf.plan import times
from lqf.plan.work import Work


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An invented benchmark."""

    def row(method: str, seconds: float, **other: Any) -> dict[str, Any]:
        defaults = {"network": "resnet50", "image_size": 224, "batch": 32, "device": "one"}
        return {"method": method, **defaults, "seconds_per_image_pass": seconds, **other}

    rows = [
        row("nlft", 0.3, batch=8),
        row("nlft", 0.2),
        row("lqf", 0.5),
        row("lqf", 0.1, device="two"),
        row("gaf", 0.4),
        row("nlft", 9.0, image_size=64),
    ]
    path = tmp_path / "epoch.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_the_rows_of_one_device_and_size_are_taken(source: Path) -> None:
    found = {one.method: one for one in times.read(source, "resnet50", 224)}

    assert {name: one.seconds for name, one in found.items()} == {
        "nlft": 0.2,
        "lqf": 0.5,
        "gaf": 0.4,
    }
    assert [one.seconds for one in times.read(source, "resnet50", 224, "two")] == [0.1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("resnet50", 32),
            "no step time is measured for resnet50 at 32 pixels: .* has resnet50 at 2",
        ),
        (("resnet18", 224), "no step time is measured for resnet18"),
        (("resnet50", 224, "three"), "on 'three': .* has 'one' and 'two'; leave --device out"),
    ],
)
def test_what_is_not_measured_is_not_made_up(
    source: Path, arguments: tuple[Any, ...], sentence: str
) -> None:
    with pytest.raises(times.NoTimes, match=sentence):
        times.read(source, *arguments)


def test_without_a_benchmark_there_are_no_times(tmp_path: Path) -> None:
    with pytest.raises(times.NoTimes, match="there is no file"):
        times.read(tmp_path / "none.json", "resnet50", 224)


def test_hours_are_passes_times_seconds(source: Path) -> None:
    measured = times.read(source, "resnet50", 224)
    works = [
        Work("train", "lqf", 3600, 0),
        Work("train", "lqf", 0, 3600),
        Work("train", "nlft", 0, 3600),
        Work("train", "fc", 0, 3600),
    ]

    found, unknown = times.hours(works, measured, METHODS)

    assert [one.hours for one in found] == pytest.approx([0.5, 0.5 * 0.6, 0.2 / 3, 0.2 / 3])
    assert unknown == []


def test_a_method_borrows_from_one_that_trains_the_same(source: Path) -> None:
    measured = times.read(source, "resnet50", 224)
    names = ["lqf_exact", "b_lqf", "lqf_no_kfac", "mpn_cov", "lqf_fc"]

    found, _ = times.hours([Work("train", name, 1, 1) for name in names], measured, METHODS)

    assert [one.measured for one in found] == ["lqf", "lqf", "gaf", "nlft", "nlft"]


def test_nothing_is_borrowed_from_another_kind_of_training(source: Path) -> None:
    only_nlft = [one for one in times.read(source, "resnet50", 224) if one.method == "nlft"]
    work = Work("train", "lqf", 1, 1)

    assert times.hours([work], only_nlft, METHODS) == ([], [work])
