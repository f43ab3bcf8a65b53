"""Informativeness where the exact score was too large to compute: told, and claims left undecided."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic import SETTINGS, sign

from lqf.report.aggregate_samples import informativeness
from lqf.report.captions import body
from lqf.report.measured import NotTested, Results
from lqf.report.measures import rank_correlation, removal_area
from lqf.report.raw import write


@pytest.fixture
def large(runs: Path, tmp_path: Path) -> Path:
    """Results of jobs that scored their samples by estimates."""
    shutil.copytree(runs / "informativeness", tmp_path / "runs" / "informativeness")
    for file in (tmp_path / "runs").rglob("scores.csv"):
        rows = pd.read_csv(file)
        rows["fsi_estimated"], rows["scored_by"] = rows["fsi_exact"], "fsi_estimated"
        rows[["fsi_exact", "fsi_eq8", "fsi_kfac"]] = None
        rows.to_csv(file, index=False)
        sign(file)
    for file in (tmp_path / "runs").rglob("removal.csv"):
        rows = pd.read_csv(file).assign(
            scored_by="fsi_estimated", retrained_by="conjugate gradients"
        )
        rows.to_csv(file, index=False)
        sign(file)
    section = SETTINGS["experiments"]["informativeness"]
    for name, frame in informativeness(tmp_path / "runs", section, SETTINGS["seeds"]).items():
        write(frame, tmp_path / "results" / name)
    return tmp_path / "results"


def test_ranks_are_those_of_the_score_there_is(large: Path) -> None:
    scores = pd.read_csv(large / "informativeness_scores.csv").query("seed == 0")

    assert scores["rank"].tolist() == list(range(1, len(scores) + 1))
    assert scores["fsi_estimated"].is_monotonic_decreasing
    assert scores["fsi_exact"].isna().all()


def test_curves_name_their_score(large: Path) -> None:
    removal = pd.read_csv(large / "removal.csv")

    assert set(removal["scored_by"]) == {"fsi_estimated"}
    assert set(removal["retrained_by"]) == {"conjugate gradients"}


def test_claims_on_the_exact_score_are_undecided(large: Path) -> None:
    with pytest.raises(NotTested, match="not measured at this size"):
        rank_correlation(Results(large), "fsi_eq8")
    assert removal_area(Results(large), "most", "least", "one_shot").value > 0


def test_the_caption_says_so(large: Path) -> None:
    caption = body("figure6", large)

    assert "not measured at this size" in caption
    assert "compressed coordinates" in caption
    assert "nan" not in caption
