"""The benchmark of costs, on images made here and random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import cost
from fake_realbench import make


def test_costs_are_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_REALBENCH", str(make(tmp_path / "realbench", {"two": 2, "three": 3})))
    monkeypatch.setattr(cost, "BY_CLASSES", (("two", 2), ("three", 2)))
    monkeypatch.setattr(cost, "BY_SAMPLES", (("three", 2),))
    monkeypatch.setattr(cost, "RESOLUTION", 32)
    monkeypatch.setattr(cost, "NETWORKS", ("squeezenet1_1",))
    [row] = cost.measure(rounds=1, small=True)
    assert row["exact_s"] > row["curvature_s"] > 0
    assert row["residual"] < 1e-2
    other = {**row, "dataset": "three", "classes": 3, "n_train": 6, "exact_s": 1.5 * row["exact_s"]}
    result = {"title": "t", "machine": {}, "rounds": 1, "rows": [row, other]}
    text = cost.markdown(result)
    assert "| squeezenet1_1 | two | 2 |" in text
    assert "Cost ∝ C^1.00." in text
    lines = cost.plot(result).axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [2, 2]
