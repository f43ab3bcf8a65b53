"""What is there when a workflow could not finish: aggregated, drawn, and marked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from claim_lists import CLAIMS
from synthetic import SETTINGS

from lqf.report.partial import partial


def test_what_is_there_is_shown_and_what_is_missing_is_named(runs: Path, tmp_path: Path) -> None:
    there = tmp_path / "runs" / "demo"
    shutil.copytree(runs / "train", there / "train")
    shutil.copytree(runs / "spectrum", there / "spectrum")
    shutil.rmtree(there / "train" / "greek")
    (there / "train" / "fonts" / "lqf" / "1" / "metrics.csv").write_text("")
    log = tmp_path / "logs" / "demo" / "download" / "greek.log"
    log.parent.mkdir(parents=True)
    log.write_text("command\nlqf download: no mirror of greek answers.\nfinished in 3 s\n")
    wanted = {name: SETTINGS["experiments"][name] for name in ("comparison", "spectrum", "kshot")}
    wanted["spectrum"] = {**wanted["spectrum"], "seeds": [0, 1, 2]}
    results, figures = tmp_path / "results/demo_partial", tmp_path / "figures/demo_partial"

    partial(there, results, figures, {"experiments": wanted, "seeds": [0, 1, 2], "claims": CLAIMS})

    missing = pd.read_csv(results / "missing.csv")
    reasons = missing.query("experiment == 'comparison'").groupby("dataset")["why"].unique()
    assert reasons["greek"].tolist() == ["lqf download: no mirror of greek answers."]
    assert "lqf/1/metrics.csv is empty" in reasons["fonts"][0]
    assert len(missing.query("experiment == 'comparison'")) == 7 * 3 + 1
    rows = pd.read_csv(results / "comparison.csv")
    assert set(rows["dataset"]) == set(SETTINGS["experiments"]["comparison"]["datasets"]) - {
        "greek"
    }
    assert set(rows["partial"]) == {"22 runs are missing"}
    assert "partial" not in pd.read_csv(results / "spectrum.csv")
    claims = pd.read_csv(results / "claims.csv").set_index("id")
    assert claims.loc["lqf_median", "verdict"] == "not tested"
    assert claims.loc["lqf_median", "note"] == "22 runs of its experiment are missing"
    assert claims.loc["condition_improves", "verdict"] != "not tested"
    assert "Partial: 22 runs" in (figures / "table1.rst").read_text("utf-8")
    assert (figures / "figure3.pdf").is_file()
    assert not (figures / "figure4.pdf").exists()


def test_experiments_and_figures_that_so_few_runs_do_not_make_cost_no_others(
    runs: Path, tmp_path: Path
) -> None:
    there = tmp_path / "runs" / "demo"
    for kept in ("train/*/nlft", "kshot/*/lqf", "spectrum/*"):
        for folder in runs.glob(kept):
            shutil.copytree(folder, there / folder.relative_to(runs))
    names = ("comparison", "spectrum", "kshot", "ablation", "informativeness")
    wanted = {name: SETTINGS["experiments"][name] for name in names}
    results, figures = tmp_path / "results/demo_partial", tmp_path / "figures/demo_partial"

    partial(there, results, figures, {"experiments": wanted, "seeds": [0, 1, 2], "claims": CLAIMS})

    assert set(pd.read_csv(results / "comparison.csv")["method"]) == {"nlft"}
    assert pd.read_csv(results / "kshot.csv")["err_nlft"].isna().all()
    assert set(pd.read_csv(results / "missing.csv")["experiment"]) == {*names} - {"spectrum"}
    drawn = {path.stem for path in figures.glob("*.rst")}
    assert {"table1", "figure3"} <= drawn
    # Nothing is compared with NLFT.
    assert "figure1_left" not in drawn
