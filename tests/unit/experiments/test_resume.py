"""Jobs that are killed at a known point, and run again, end with the numbers of one that was not."""

from __future__ import annotations

import signal
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
    "kfac_sgd": {"rates": [0.5], "weight_decays": [1e-3], "damping": 1e-2, **SGD},
    "pcg": {"weight_decays": [1e-2], "damping": 1e-2, "tolerance": 1e-6, "max_passes": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    jobs.make_data(folder / "data")
    jobs.make_weights(folder / "weights.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jobs.job` sets in this process."""
    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv("LQF_DEVICE", "cpu")
    monkeypatch.setattr(problem, "DENSE_BYTES", problem.DENSE_BYTES)


def line_of(name: str, world: Path, output: Path) -> list[str]:
    command, method = {
        "nonlinear": ("train", "nlft"),
        "kfac_sgd": ("train", "lqf"),
        "pcg": ("train", "lqf_exact"),
    }[name]
    settings: dict[str, Any] = {"name": method, "training": TRAINING}
    return jobs.arguments(command, world, output, settings)


# Safe points: 4 steps an epoch, 3 epochs; kept factors count as one.
@pytest.mark.parametrize(
    ("name", "number", "after"),
    [
        ("nonlinear", signal.SIGKILL, 13),
        ("nonlinear", signal.SIGTERM, 18),
        ("kfac_sgd", signal.SIGKILL, 12),
        ("kfac_sgd", signal.SIGTERM, 6),
        ("pcg", signal.SIGKILL, 7),
        ("pcg", signal.SIGTERM, 3),
    ],
)
def test_train(
    name: str,
    number: signal.Signals,
    after: int,
    world: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert jobs.job(line_of(name, world, whole), 3600) == 0

    code = jobs.kill(line_of(name, world, parts), number, after)

    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    assert "point.safetensors" in jobs.kept_files(parts)
    with caplog.at_level("INFO"):
        assert jobs.job(line_of(name, world, parts), 3600) == 0
    assert "goes on from a state" in caplog.text
    assert jobs.numbers(parts / "metrics.csv") == jobs.numbers(whole / "metrics.csv")
    assert jobs.kept_files(parts) == []
