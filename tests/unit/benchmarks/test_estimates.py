"""The benchmark of estimated scores, on images made here and random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import estimates
from fake_realbench import make

from lqf.optimum import optimum


def test_estimates_are_compared_with_the_formed_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQF_REALBENCH", str(make(tmp_path / "realbench", {"three": 3})))
    monkeypatch.setattr(estimates, "SETS", {"three": 4})
    monkeypatch.setattr(estimates, "RESOLUTION", 32)
    with pytest.raises(TypeError, match="solved exactly"):
        estimates.measure(rounds=1, small=True)
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    [row] = estimates.measure(rounds=1)
    assert row["loo_off"] < 0.5
    assert row["covariance_off"] < 0.5
    result = {"title": "t", "machine": {}, "rounds": 1, "rows": [row]}
    assert "| three | 12 | 3 |" in estimates.markdown(result)
    assert len(estimates.plot(result).axes[0].get_lines()) == 2
