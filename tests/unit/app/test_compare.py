"""Whether two runs are told to be the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from lqf.app.compare import compared

RESULTS = Path(__file__).parents[3] / "results" / "demo"


def test_a_run_is_the_same_as_itself() -> None:
    found = compared(RESULTS, RESULTS)
    assert found["errors_identical"]
    assert found["same_within_intervals"]
    assert found["errors_that_differ"] == found["only_in_first"] == []


def test_a_large_difference_is_found_and_noise_is_not(tmp_path: Path) -> None:
    other = shutil.copytree(RESULTS, tmp_path / "other")
    rows = pd.read_csv(other / "comparison.csv")
    rows.loc[0, "err_mean"] += 30
    rows.loc[1, "err_mean"] += 0.2 * rows.loc[1, "err_std"]
    rows.drop(index=2).to_csv(other / "comparison.csv", index=False)
    (other / "comparison.sha256").unlink()

    found = compared(RESULTS, other)

    first = rows.iloc[0]
    assert not found["errors_identical"]
    assert not found["same_within_intervals"]
    assert [line.split(" (")[0] for line in found["errors_that_differ"]] == [
        f"{first['dataset']} {first['method']}"
    ]
    assert len(found["only_in_first"]) == 1
