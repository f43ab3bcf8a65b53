"""Jobs that are killed at a known point, and run again, end with the numbers of one that was not."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import pytest

from lqf.experiments import problem

SGD = {"epochs": 3, "batch": 5, "momentum": 0.9, "milestones": [0.5, 0.8], "decay": 0.1}
TRAINING = {
    "nonlinear": {
        "rates": [0.03, 0.01], "weight_decays": [1e-4], "batch_norm": ["train"], **SGD,
    },
    "adamw": {"rates": [0.001], "weight_decays": [1e-2], "batch_norm": ["train"], **SGD},
    "kfac_sgd": {"rates": [0.5], "weight_decays": [1e-3], "dampings": [1.0], **SGD},
    "exact": {"tolerance": 1e-3, "max_passes": 12},
}  # fmt: skip
SPECTRUM = {"training": TRAINING, "experiment": {"samples": 4}}
#: GB of which a quarter is too little for the Gram matrix of 18 samples, and enough for 64 coordinates.
LITTLE = "0.00055"
ONLINE = {"steps": 3, "per_step": 6, "max_epochs": 4, "stop_error": 30.0, "patience": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    jobs.make_data(folder / "data")
    jobs.make_weights(folder / "weights.safetensors")
    return folder


Whole = Callable[[str], list[dict[str, str]]]


@pytest.fixture(scope="module")
def whole(world: Path) -> Whole:
    """The numbers of a job that was not killed, run once."""

    @functools.cache
    def run(name: str) -> list[dict[str, str]]:
        output = world / name
        assert jobs.job(line_of(name, world, output)) == 0
        return jobs.numbers(output / "metrics.csv")

    return run


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jobs.job` sets in this process."""
    for name in ("LQF_CHECKPOINT_SECONDS", "LQF_DEVICE", "LQF_MEMORY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(problem, "DENSE_BYTES", problem.DENSE_BYTES)


def line_of(name: str, world: Path, output: Path) -> list[str]:
    command, method = {
        "nonlinear": ("train", "nlft"),
        "adamw": ("train", "nlft_adamw"),
        "kfac_sgd": ("train", "lqf"),
        "online linear": ("online", "lqf"),
        "online nonlinear": ("online", "nlft"),
    }[name]
    settings: dict[str, Any] = {"name": method, "training": TRAINING, "experiment": ONLINE}
    return jobs.arguments(command, world, output, settings)


def informative(world: Path, output: Path) -> list[str]:
    settings = {"training": TRAINING, "experiment": {"removals": [0, 2]}}
    return jobs.arguments("informativeness", world, output, settings)


def test_informativeness(world: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for folder in (whole, again):
        assert jobs.job(informative(world, folder)) == 0
    scores, removal = jobs.numbers(again / "scores.csv"), jobs.numbers(again / "removal.csv")
    assert scores == jobs.numbers(whole / "scores.csv")
    assert removal == jobs.numbers(whole / "removal.csv")
    assert {row["scored_by"] for row in scores} == {"fsi_exact"}
    assert {row["retrained_by"] for row in removal} == {"dense"}


def test_a_spectrum_that_does_not_fit_is_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = jobs.arguments("spectrum", world, tmp_path / "none", {**SPECTRUM})
    assert jobs.job(line, memory="0.00001") == 1
    assert "at most 2 samples fit" in capsys.readouterr().err


def test_spectrum_goes_on(world: Path, tmp_path: Path) -> None:
    whole = jobs.arguments("spectrum", world, tmp_path / "whole", {**SPECTRUM})
    assert jobs.job(whole) == 0
    parts = jobs.arguments("spectrum", world, tmp_path / "parts", {**SPECTRUM})

    assert jobs.kill(parts, signal.SIGKILL, 20) == -signal.SIGKILL
    assert jobs.job(parts) == 0

    files = [tmp_path / name / "metrics.csv" for name in ("whole", "parts")]
    assert jobs.numbers(files[0]) == jobs.numbers(files[1])


def test_online_goes_on_without_its_warm_start(
    world: Path, whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.kill(line_of("online linear", world, tmp_path), signal.SIGKILL, 17)
    (warm,) = tmp_path.glob("*/*/warm_start.safetensors")
    content = bytearray(warm.read_bytes())
    content[-1] ^= 1
    warm.write_bytes(content)

    assert jobs.job(line_of("online linear", world, tmp_path)) == 0

    assert "warm_start.safetensors is damaged" in caplog.text
    assert jobs.numbers(tmp_path / "metrics.csv") == whole("online linear")


def test_the_chosen_point_is_fitted_again_with_the_validation_images(whole: Whole) -> None:
    rows = whole("nonlinear")

    assert [row["refit_n_train"] for row in rows] == [
        "27" if row["selected_val"] == "True" else "" for row in rows
    ]
    assert all(bool(row["refit_err"]) == bool(row["refit_n_train"]) for row in rows)


# Safe points: 4 steps an epoch, 3 epochs; where each keeps a state, factors and warm starts count too.
@pytest.mark.parametrize(
    ("name", "number", "after"),
    [
        ("nonlinear", signal.SIGKILL, 8),
        ("adamw", signal.SIGKILL, 8),
        ("nonlinear", signal.SIGTERM, 18),
        ("kfac_sgd", signal.SIGKILL, 7),
        ("kfac_sgd", signal.SIGTERM, 6),
        ("online linear", signal.SIGKILL, 12),
        ("online linear", signal.SIGTERM, 20),
        ("online nonlinear", signal.SIGKILL, 38),
        ("online nonlinear", signal.SIGTERM, 45),
    ],
)
def test_a_killed_job_ends_with_the_numbers_of_a_whole_one(
    name: str,
    number: signal.Signals,
    after: int,
    world: Path,
    whole: Whole,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = line_of(name, world, tmp_path)

    code = jobs.kill(line, number, after)

    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    assert "point.safetensors" in jobs.kept_files(tmp_path)
    with caplog.at_level("INFO"):
        assert jobs.job(line) == 0
    assert "goes on from a state" in caplog.text
    assert jobs.numbers(tmp_path / "metrics.csv") == whole(name)
    assert jobs.kept_files(tmp_path) == []
