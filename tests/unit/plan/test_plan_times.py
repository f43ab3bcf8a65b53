"""Hours from measured times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lqf.method import METHODS
from lqf.plan import times
from lqf.plan.work import Passes, Work


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
        row("fc", 0.25, head_seconds_per_image=0.5),
        row("lqf_exact", 0.5, setup_seconds_per_image=0.25, setup_seconds=7.0),
        row("nlft", 99.0, device="CPU, 1 thread"),
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
        "fc": 0.25,
        "lqf_exact": 0.5,
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
        (
            ("resnet50", 224, "three"),
            "on 'three': .* has 'one' and 'two' and 'CPU, 1 thread'; leave --device out",
        ),
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
        Work("train", "lqf", Passes(training=3600)),
        Work("train", "lqf", Passes(evaluation=3600)),
        Work("train", "nlft", Passes(evaluation=3600)),
        Work("train", "fc", Passes(features=3600, setup=3600)),
        Work("train", "lqf_exact", Passes(setup=3600, problems=3600)),
    ]

    found, unknown = times.hours(works, measured, METHODS)

    assert [one.hours for one in found] == pytest.approx(
        [0.5, 0.5 * 0.6, 0.2 / 3, 0.25 + 0.5, 7.25]
    )
    assert unknown == []


def test_a_faster_device_takes_less(source: Path) -> None:
    measured = times.read(source, "resnet50", 224)
    work = [Work("train", "lqf", Passes(training=7200))]

    assert times.hours(work, measured, METHODS, speed=4)[0][0].hours == pytest.approx(0.25)


def test_a_method_borrows_from_one_that_trains_the_same(source: Path) -> None:
    measured = times.read(source, "resnet50", 224)
    names = ["lqf_exact", "b_lqf", "lqf_no_kfac", "mpn_cov", "lqf_fc"]

    found, _ = times.hours([Work("train", name, Passes(1)) for name in names], measured, METHODS)

    assert [one.measured for one in found] == ["lqf_exact", "lqf", "gaf", "nlft", "fc"]


def test_nothing_is_borrowed_from_another_kind_of_training(source: Path) -> None:
    only_nlft = [one for one in times.read(source, "resnet50", 224) if one.method == "nlft"]
    work = Work("train", "lqf", Passes(1))

    assert times.hours([work], only_nlft, METHODS) == ([], [work])
