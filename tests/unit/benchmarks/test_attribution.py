"""The benchmark of attribution, on images made here and random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import attribution
from fake_realbench import make
from sklearn.metrics import roc_auc_score


def test_the_area_is_that_of_scikit_learn() -> None:
    values = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.3, 0.9])
    positive = torch.tensor([False, True, False, True, False, True])
    expected = roc_auc_score(positive, values)
    assert attribution._auc(values, positive) == pytest.approx(expected)


def test_everything_is_asked_of_small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_REALBENCH", str(make(tmp_path / "realbench", {"colours": 3})))
    monkeypatch.setattr(attribution, "SETS", {"colours": 4})
    monkeypatch.setattr(attribution, "RESOLUTION", 32)
    monkeypatch.setattr(attribution, "PROJECTED", 4)
    rows = attribution.measure(rounds=1, small=True)
    own = {row["method"]: row["value"] for row in rows if row.get("models") == "LQF's own"}
    # Sums of leave-one-out influences rank what models of half the images say.
    assert own["lqf"] > 0.5
    assert {row["asked"] for row in rows} == {"lds", "flipped"}
    text = attribution.markdown({"title": "t", "machine": {}, "rounds": 1, "rows": rows})
    assert text.count("| colours |") == len(rows)
    attribution.plot({"rows": rows}).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
