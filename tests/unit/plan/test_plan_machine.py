"""Times of a machine that the benchmark has not seen."""

from __future__ import annotations

import pytest

from lqf.method import METHODS
from lqf.plan import machine, times
from lqf.plan.work import Passes, Work


def test_operations_are_counted_without_computing_them() -> None:
    assert machine.operations("resnet50", 224) == pytest.approx(2 * 4.09e9, rel=0.01)
    assert machine.operations("resnet18", 64) < machine.operations("resnet18", 128) / 3.5


def test_a_gpu_takes_what_its_peak_and_share_allow() -> None:
    seconds, told = machine.on_gpu(8e9, "A100", 0.5)
    assert seconds == pytest.approx(3 * 8e9 / (19.5e12 * 0.5))
    assert "counted, not measured" in told
    assert "of which 50% are used" in told
    assert machine.on_gpu(8e9, "39", 0.25)[0] == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("gpu", "share", "sentence"),
    [
        ("a1000", 0.4, "--gpu is 'a1000': choose one of v100"),
        ("nan", 0.4, "must be above 0"),
        ("-3", 0.4, "must be above 0"),
        ("a100", 1.5, "--utilisation is 1.5: choose a share"),
        ("a100", 0.0, "--utilisation is 0: choose a share"),
    ],
)
def test_what_is_no_gpu_is_refused(gpu: str, share: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        machine.on_gpu(8e9, gpu, share)


def test_this_machine_is_measured() -> None:
    seconds, told = machine.on_this_machine("demo_resnet", 16, budget=0.0)
    assert seconds > 0
    assert told.startswith("measured on this machine (")


def test_unmeasured_networks_cost_by_counting_products() -> None:
    works = [
        Work("train", "nlft", Passes(training=3600, evaluation=3600)),
        Work("train", "lqf", Passes(training=3600, setup=3600)),
        Work("train", "fc", Passes(setup=3600, features=3600)),
    ]

    found, unknown = times.hours(works, times.counted(3.0, "here"), METHODS)

    assert unknown == []
    assert [one.hours for one in found] == pytest.approx([4.0, 10.0, 1.0])
