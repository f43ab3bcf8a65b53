"""Few samples a class: as many as are asked for, or all there are."""

from __future__ import annotations

from pathlib import Path

import jobs
import pytest

from lqf.experiments.kshot import kshot

GRID = {"rates": [0.01], "weight_decays": [1e-4], "augment": False, "epochs": 1, "batch": 5}
GRID |= {"momentum": 0.9, "milestones": [], "decay": 0.1}


def test_all_is_the_whole_training_set_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQF_DEVICE", "cpu")
    jobs.make_data(tmp_path / "data", per_class=6)
    jobs.make_weights(tmp_path / "weights.safetensors")
    settings = {**jobs.SETTINGS, "training": {"sgd": GRID}, "experiment": {"shots": [2, "all"]}}

    rows = kshot("fc", "colours", 0, tmp_path / "data", tmp_path / "weights.safetensors", settings)

    found = [(row["shots"], row["n_train"], row["n_val"], row["classes"]) for row in rows]
    assert found == [(2, 6, 6, 3), ("all", 18, 9, 3)]
