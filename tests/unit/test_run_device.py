"""Which device a job gets."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from lqf import devices, run


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with two invented GPUs; the list grows by one for each lease."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "hold", taken.append)
    return taken


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_is_leased(wanted: str, leases: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_DEVICE", wanted)

    assert run.device() == torch.device("cuda")
    assert leases == [2]


def test_cpu_leases_nothing(leases: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_DEVICE", "cpu")

    assert run.device() == torch.device("cpu")
    assert leases == []


def test_auto_is_the_cpu_where_there_is_no_gpu(
    leases: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LQF_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    assert run.device() == torch.device("cpu")
    assert leases == []


@pytest.mark.parametrize("wanted", ["gpu", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_refused(
    wanted: str, leases: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQF_DEVICE", wanted)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    with pytest.raises(ValueError, match=f"'{wanted}', which is not available here"):
        run.device()


def test_macos_names_its_processor_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_DEVICE", "cpu")
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr(platform, "processor", lambda: "arm")

    assert run.processor().startswith("arm, ")
