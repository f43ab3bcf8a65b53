from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import MADE, SETTINGS, mark, metrics_row, sign, write_csv, write_metrics, write_world

from lqf.provenance import WrongRecord
from lqf.report import aggregate_sweeps
from lqf.report.aggregate import aggregate
from lqf.report.artefacts import aggregated_files
from lqf.report.raw import MissingRun


def settings(**sections: dict[str, Any] | None) -> dict[str, Any]:
    return {"scale": "demo", "seeds": [0, 1, 2], "experiments": sections}


def aggregated(
    root: Path,
    file: str,
    methods: Sequence[str] = ("nlft",),
    seeds: int = 1,
    datasets: Sequence[str] = ("greek",),
) -> pd.DataFrame:
    """A CSV made from root/runs, of the experiment that its name begins with."""
    names = ("fine_grained", "comparison", "elr")
    section = {"datasets": [*datasets], "methods": [*methods], "seeds": [*range(seeds)]}
    section |= {"dataset": datasets[0]}
    experiment = next((name for name in names if file.startswith(name)), "spectrum")
    wanted = settings(**{experiment: section}) | {"data": str(root / "data")}
    aggregate(root / "runs", root / "out", wanted)
    return pd.read_csv(root / "out" / file)


def test_writes_what_the_registry_promises(results: Path) -> None:
    files = aggregated_files(SETTINGS["experiments"])
    digests = [f"{name}.sha256" for name in [*SETTINGS["experiments"], "claims"]]
    assert sorted(p.name for p in results.iterdir()) == sorted([*files, "claims.csv", *digests])
    for file in results.glob("*.csv"):
        columns = set(pd.read_csv(file).columns)
        assert not columns & {"wall_s", "device"}, file


def test_bytes_depend_on_the_numbers_alone(runs: Path, results: Path, tmp_path: Path) -> None:
    # The same runs written again: other wall times, rows shuffled.
    again = write_world(tmp_path)
    for path in again.rglob("*.csv"):
        lines = path.read_text().splitlines(keepends=True)
        body = np.random.default_rng(1).permutation(np.array(lines[1:], dtype=object))
        path.write_text("".join([lines[0], *body]))
        sign(path)
    aggregate(again, tmp_path / "results" / "demo", SETTINGS)
    for path in (tmp_path / "results" / "demo").iterdir():
        assert path.read_bytes() == (results / path.name).read_bytes(), path.name


def test_an_error_is_that_of_the_second_fit_and_a_choice_at_the_edge_is_told(
    tmp_path: Path,
) -> None:
    grid = [
        metrics_row("greek", "nlft", 0, 9.0, val_err=val, rate=rate, weight_decay=decay)
        for rate, decay, val in ((0.1, 1e-4, 3.0), (0.1, 1e-3, 2.0), (0.1, 1e-2, 4.0))
    ]
    grid += [{**row, "rate": 0.01, "val_err": 5.0} for row in grid]
    rows = mark(grid)
    chosen = next(row for row in rows if row["selected_val"])
    chosen |= {"refit_err": 6.0, "refit_n_train": 260}
    write_metrics(tmp_path / "runs", "train", rows)
    run = aggregated(tmp_path, "fine_grained_runs.csv").iloc[0]
    assert (run["test_err"], run["n_train"], run["at_edge"]) == (6.0, 260, "rate highest")


def test_selected_rows_and_their_mean(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed, (own, best) in enumerate([(4.0, 3.0), (6.0, 5.0), (8.0, 7.0)]):
        for method, shift in (("nlft", 0), ("lqf", 1)):
            rows = [
                metrics_row("greek", method, seed, own + shift, val_err=1.0, rate=0.1),
                metrics_row("greek", method, seed, best + shift, val_err=2.0, rate=0.01),
            ]
            write_metrics(runs, "train", mark(rows))
    rows = aggregated(tmp_path, "comparison.csv", ["nlft", "lqf"], 3).set_index("method")
    assert rows.loc["nlft", "err_mean"] == 6
    assert rows.loc["nlft", "err_std"] == 2
    assert rows.loc["nlft", "err_mean_on_test"] == 5
    assert rows.loc["nlft", "best_rate"] == 0.1
    assert rows.loc["nlft", "n_seeds"] == 3
    relative = pd.read_csv(tmp_path / "out" / "relative.csv")
    assert relative["rel_increase_pct"].tolist() == pytest.approx([100 / 6], rel=1e-5)


def test_how_far_sgd_stopped_is_averaged_over_the_runs_that_say_so(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed, (residual, share) in enumerate([(0.01, 0.9), (0.03, ""), (0.05, 0.7)]):
        write_metrics(runs, "train", mark([metrics_row("greek", "nlft", seed, 5.0)]))
        known = {"residual": residual, "row_space": share}
        write_metrics(runs, "train", mark([metrics_row("greek", "lqf", seed, 5.0, **known)]))
    rows = aggregated(tmp_path, "comparison.csv", ["nlft", "lqf"], 3).set_index("method")
    assert rows.loc["lqf", ["residual", "row_space"]].tolist() == pytest.approx([0.03, 0.8])
    assert rows.loc["nlft", ["residual", "row_space"]].isna().all()


def test_diverged_runs_are_counted_and_never_averaged(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed in range(3):
        write_metrics(runs, "train", mark([metrics_row("greek", "nlft", seed, 5.0)]))
        errors = [float("inf"), float("inf") if seed == 0 else 4.0 + 2 * seed]
        rows = [metrics_row("greek", "lqf", seed, e, rate=r) for r, e in enumerate(errors)]
        write_metrics(runs, "train", mark(rows))
        gone = [metrics_row("greek", "gaf", seed, float("inf"), rate=r) for r in (0.1, 0.2)]
        write_metrics(runs, "train", mark(gone))
    rows = aggregated(tmp_path, "comparison.csv", ["nlft", "lqf", "gaf"], 3).set_index("method")
    lqf, gaf = rows.loc["lqf"], rows.loc["gaf"]
    assert (lqf["err_mean"], lqf["n_seeds"], lqf["n_runs"], lqf["n_diverged"]) == (7, 2, 3, 4)
    assert (gaf["n_seeds"], gaf["n_diverged"], gaf["status"]) == (0, 6, "diverged")
    assert np.isnan(gaf["err_mean"])
    runs_csv = pd.read_csv(tmp_path / "out" / "comparison_runs.csv")
    assert (runs_csv["status"] == "diverged").sum() == 4
    summary = pd.read_csv(tmp_path / "out" / "relative_summary.csv").set_index("method")
    assert summary.loc["gaf", ["n_datasets", "n_undefined"]].tolist() == [0, 1]


def test_only_the_papers_own_data_sets_get_number_and_difference(
    results: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(results / "fine_grained.csv").set_index("dataset")
    assert rows.loc["accents", "paper"].tolist() == ["CUB-200"] * 6
    assert rows["paper_err"].isna().all()
    described = tmp_path / "data" / "mine" / "dataset.json"
    described.parent.mkdir(parents=True)
    described.write_text(json.dumps({"title": "My leaves", "group": "coarse", "paper": None}))
    names = ["cub200_2011", "mine"]
    for name in names:
        write_metrics(tmp_path / "runs", "train", mark([metrics_row(name, "b_lqf", 0, 18.1)]))
    own, mine = aggregated(tmp_path, "fine_grained.csv", ["b_lqf"], 1, names).to_dict("records")
    assert (own["title"], own["group"], own["paper_err"]) == ("CUB-200-2011", "fine", 17.1)
    assert own["diff"] == pytest.approx(1.0)
    assert mine["title"] == "My leaves"
    assert np.isnan(mine["paper_err"])


def test_best_rate_is_the_middle_of_the_tied_ones(tmp_path: Path) -> None:
    errors = {0.1: float("inf"), 0.01: 3.0, 0.005: 3.0, 0.001: 3.0, 0.0001: 9.0}
    rows = [metrics_row("greek", "lqf", 0, e, rate=rate, elr=rate) for rate, e in errors.items()]
    write_metrics(tmp_path / "runs", "elr", mark(rows))
    best = aggregated(tmp_path, "elr_best.csv", ["lqf"]).iloc[0]
    assert (best["best_elr"], best["n_tied"], best["n_diverged"]) == (0.005, 3, 1)


def test_shots_pair_the_same_draws(results: Path) -> None:
    rows = pd.read_csv(results / "kshot_runs.csv")
    assert len(rows) == 7 * 3 * 5
    assert list(dict.fromkeys(rows["shots"].astype(str))) == ["1", "2", "5", "10", "all"]
    assert rows["per_class"].tolist() == (rows["n_train"] / 10).tolist()
    expected = (rows["err_lqf"] - rows["err_nlft"]) / rows["err_nlft"] * 100
    assert rows["rel_diff_pct"].to_numpy() == pytest.approx(expected.to_numpy(), abs=2e-3)


def test_spread_is_taken_at_as_many_eigenvalues_as_there_are_samples(tmp_path: Path) -> None:
    values = {"init": [100.0, 10.0, 1.0, 0.0], "end": [100.0, 50.0, 0.01, 0.0]}
    about = {"matrix": "cross_entropy", "n_samples": 2, "ridge": 0.1, "effective_dimension": 2.0}
    rows = [
        {**about, "phase": phase, "index": i, "eigenvalue": value}
        for phase, own in values.items()
        for i, value in enumerate(own)
    ]
    write_csv(tmp_path / "runs/spectrum/greek/0/spectrum.csv", rows)
    rows_ = aggregated(tmp_path, "condition.csv").set_index("phase")
    assert rows_["spread"].to_dict() == {"init": 10, "end": 2}
    assert rows_["lambda_max"].to_dict() == {"init": 100, "end": 100}


def test_leave_one_out_is_beside_the_test_error_of_every_exact_fit(
    runs: Path, results: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(results / "leave_one_out.csv")
    assert set(rows["method"]) == {"lqf_exact", "lqf_euclidean"}
    assert len(rows) == 2 * 7 * 3
    assert rows["gap"].to_numpy() == pytest.approx(0.1 * rows["test_err"].to_numpy(), abs=1e-3)
    assert rows["counted"].all()
    single = [metrics_row("greek", "ridge_head", 0, 50.0, shots=k, n_train=10 * k) for k in (1, 2)]
    write_metrics(tmp_path, "kshot", single)
    read = {"datasets": ["greek"], "methods": ["ridge_head"]}
    section = {"methods": ["ridge_head"], "rows_of": {"kshot": read}}
    section |= {"datasets": ["greek"], "machines": {}}
    found = aggregate_sweeps.leave_one_out(tmp_path, section, [0])["leave_one_out.csv"]
    assert found["counted"].tolist() == [False, True]


def test_ranks_start_at_the_most_informative(results: Path) -> None:
    rows = pd.read_csv(results / "informativeness_scores.csv")
    for _, own in rows.groupby("seed"):
        assert own["rank"].tolist() == list(range(1, 161))
        assert own["fsi_exact"].is_monotonic_decreasing


def test_correlations_are_spearmans(results: Path) -> None:
    scores = pd.read_csv(results / "informativeness_scores.csv").query("seed == 1")
    found = pd.read_csv(results / "informativeness_correlation.csv").set_index(["seed", "score"])
    for score in ("fsi_eq8", "loo_error"):
        expected = stats.spearmanr(scores[score], scores["fsi_exact"]).statistic
        assert found.loc[(1, score), "spearman"] == pytest.approx(expected, rel=1e-4)


def test_the_picture_holds_the_shown_samples(runs: Path, results: Path) -> None:
    from PIL import Image

    scores = pd.read_csv(results / "informativeness_scores.csv").query("seed == 0")
    images = np.load(runs.parent.parent / "data/demo/digits/images.npy")
    sheet = np.asarray(Image.open(results / "informative_images.png"))
    assert sheet.shape == (48, 25 * 24, 3)
    least = scores["row"].iloc[[-1, -2]]
    assert (sheet[:24, :24] == images[scores["row"].iloc[0]]).all()
    assert (sheet[24:, :24] == images[least.iloc[0]]).all()
    assert (sheet[24:, 24:48] == images[least.iloc[1]]).all()


def test_a_run_that_is_not_what_the_config_asks_for_is_refused(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs" / "train" / "greek" / "nlft" / "0" / "metrics.csv"
    with pytest.raises(MissingRun, match=r"greek/nlft/0/metrics\.csv does not exist"):
        aggregated(tmp_path, "comparison.csv")
    shutil.copytree(runs / "train" / "greek" / "nlft" / "1", place.parent)
    with pytest.raises(MissingRun, match="holds rows of"):
        aggregated(tmp_path, "comparison.csv")
    rows = [metrics_row("greek", "nlft", 0, e, rate=e) for e in (1.0, 2.0)]
    write_metrics(tmp_path / "runs", "train", rows)
    with pytest.raises(MissingRun, match="has 0 rows with selected_val"):
        aggregated(tmp_path, "comparison.csv")
    for truncated in ("", "dataset,method\ngreek,nlft\n"):
        place.write_text(truncated)
        with pytest.raises(MissingRun, match="run its job again"):
            aggregated(tmp_path, "comparison.csv")


def test_figure6_without_its_images_is_refused(runs: Path, tmp_path: Path) -> None:
    wanted = settings(informativeness=SETTINGS["experiments"]["informativeness"])
    with pytest.raises(MissingRun, match="Figure 6 shows its images"):
        aggregate(runs, tmp_path / "out", wanted | {"data": str(tmp_path / "nowhere")})


def test_a_dropped_experiment_is_left_out(runs: Path, tmp_path: Path) -> None:
    sections = {"elr": SETTINGS["experiments"]["elr"], "online": None}
    aggregate(runs, tmp_path / "out", settings(**sections))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"elr.csv", "elr_best.csv", "elr_machines.csv", "elr.sha256"}


def three_seeds(runs: Path) -> tuple[list[Path], dict[str, Any]]:
    """Files of a method on two data sets, and the settings that ask for them."""
    files = [
        write_metrics(runs, "train", mark([metrics_row(dataset, "nlft", seed, 5.0 + seed)]))
        for dataset in ("greek", "fonts")
        for seed in range(3)
    ]
    return files, settings(comparison={"datasets": ["greek", "fonts"], "methods": ["nlft"]})


def test_every_missing_seed_is_named_at_once(tmp_path: Path) -> None:
    files, wanted = three_seeds(tmp_path / "runs")
    for file in (files[0], files[2], files[4]):
        file.unlink()
    with pytest.raises(MissingRun, match=r"3 of 6 .*\(greek nlft seed 0, 2; fonts nlft seed 1\)"):
        aggregate(tmp_path / "runs", tmp_path / "out", wanted)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (",5,5,", ",5,6,", "its hash is another"),
        (",ok,", ",OK,", "its hash is another"),
        (",5,5,", ",5,nan,", "has test_err nan in row 2, which is no error rate"),
        (",5,5,", ",5,101,", "has test_err 101 in row 2, which is no error rate"),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    files, wanted = three_seeds(tmp_path / "runs")
    text = files[0].read_text()
    assert old in text
    files[0].write_text(text.replace(old, new))
    if "hash" not in sentence:
        sign(files[0])
    with pytest.raises(MissingRun, match=sentence):
        aggregate(tmp_path / "runs", tmp_path / "out", wanted)


def test_a_row_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    files, wanted = three_seeds(tmp_path / "runs")
    text = files[0].read_text()
    files[0].write_text(text + text.splitlines(keepends=True)[1])
    sign(files[0])
    with pytest.raises(MissingRun, match="has row 3 twice"):
        aggregate(tmp_path / "runs", tmp_path / "out", wanted)


@pytest.mark.parametrize("key", ["version", "torch", "device", "data", "settings"])
def test_runs_that_are_made_differently_are_not_mixed(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, wanted = three_seeds(tmp_path / "runs")
    monkeypatch.setitem(MADE, key, "another")
    sign(files[1])
    with pytest.raises(WrongRecord, match=r"nlft/1/metrics\.csv and .* come from different"):
        aggregate(tmp_path / "runs", tmp_path / "out", wanted)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    files, wanted = three_seeds(tmp_path / "runs")
    record = files[0].with_name("run.json")
    for damaged in ("", record.read_text().replace('"version": 1', '"version": 3')):
        record.write_text(damaged)
        with pytest.raises(MissingRun, match=r"greek/nlft/0/run\.json is damaged"):
            aggregate(tmp_path / "runs", tmp_path / "out", wanted)
