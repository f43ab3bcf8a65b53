from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from claim_lists import CLAIMS

from lqf.report.claims import claims, decide
from lqf.report.measured import NotTested, PaperResults, Results
from lqf.report.measures import FUNCTIONS
from lqf.report.statistics import Estimate


def measured(folder: Path, name: str, **arguments: Any) -> Estimate:
    return FUNCTIONS[name](Results(folder), **arguments)


def test_every_claim_is_tested_on_full_results(results: Path) -> None:
    rows = pd.read_csv(results / "claims.csv").set_index("id")
    assert rows.index.tolist() == [claim["id"] for claim in CLAIMS]
    # The opponents that only photographs meet.
    assert rows.loc["exact_beats_strong", "verdict"] == "not tested"
    rows = rows.drop(index="exact_beats_strong")
    assert set(rows["verdict"]) <= {"holds", "fails", "undecided"}
    assert (rows["low"] <= rows["value"] + 1e-9).all()
    assert (rows["value"] <= rows["high"] + 1e-9).all()
    assert rows["interval"].notna().all()
    assert (rows["n"] > 1).all()


def test_the_papers_own_tables_refute_and_confirm(results: Path) -> None:
    rows = pd.read_csv(results / "claims.csv").set_index("id")
    verdicts = rows["paper_verdict"]
    # Stanford Dogs: FC 9.9, GaF 10.5, LQF 12.4.
    assert verdicts["lqf_beats_linear"] == "fails"
    assert rows.loc["lqf_beats_linear", "paper_value"] == pytest.approx(0.9)
    assert verdicts["lqf_near_nlft_coarse"] == "holds"
    assert rows.loc["lqf_near_nlft_coarse", "paper_value"] == pytest.approx(0.6)
    assert rows.loc["lqf_gain_over_fc", "paper_value"] == pytest.approx(20.2)
    assert rows.loc["lqf_median", "paper_value"] == pytest.approx(12.7, abs=0.05)
    assert verdicts["linear_order"] == "holds"
    assert verdicts["b_lqf_beats_nlft"] == "holds"
    assert verdicts["online_lqf_gap"] == "not tested"


def test_claims_without_results_are_not_tested(tmp_path: Path) -> None:
    frame = claims(tmp_path, tmp_path / "claims.csv", CLAIMS)
    assert set(frame["verdict"]) == {"not tested"}
    assert frame["note"].str.contains("is not among the results").all()


def test_no_claims_are_an_empty_table_that_can_be_read(tmp_path: Path) -> None:
    claims(tmp_path, tmp_path / "claims.csv", [])

    table = pd.read_csv(tmp_path / "claims.csv")
    assert len(table) == 0
    assert {"id", "verdict", "paper_verdict"} <= set(table.columns)


def test_verdicts_follow_the_rule() -> None:
    rule = {"holds": "high < 0", "fails": "low > 0"}
    assert decide(rule, Estimate(-2, -3, -1, 7, "")) == "holds"
    assert decide(rule, Estimate(2, 1, 3, 7, "")) == "fails"
    assert decide(rule, Estimate(-1, -3, 1, 7, "")) == "undecided"
    assert decide(rule, Estimate(-1, np.nan, np.nan, 1, "")) == "undecided"


def test_a_claim_that_fails_says_why_and_one_without_an_interval_cannot_be_tested(
    tmp_path: Path,
) -> None:
    claim = {
        "id": "a", "source": "ours", "statement": "s", "rule": {"holds": "high < 0", "fails": "low > 0"},
        "measure": {"name": "mean_difference", "experiment": "comparison", "method": "lqf", "reference": "fc"},
    }  # fmt: skip
    for sets, verdict, why in (
        (5, "fails", "3 … 3 lies where"),
        (2, "untestable", "2 values have no"),
    ):
        errors = {str(n): {"lqf": [5.0, 5.0], "fc": [2.0, 2.0]} for n in range(sets)}
        rows = [{**row, "at_edge": "rate highest"} for row in runs_of(errors)]
        write(tmp_path, "comparison_runs.csv", rows)
        (row,) = claims(tmp_path, tmp_path / "claims.csv", [claim]).to_dict("records")
        assert row["verdict"] == verdict
        assert why in row["note"]
        assert f"lqf chose the edge of its grid in {2 * sets} of {2 * sets} runs" in row["note"]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(folder / name, index=False)


def runs_of(errors: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    return [
        {"dataset": dataset, "method": method, "seed": seed, "test_err": error}
        for dataset, methods in errors.items()
        for method, values in methods.items()
        for seed, error in enumerate(values)
    ]


def test_wins_are_certain_possible_or_neither(tmp_path: Path) -> None:
    errors = {
        "sure": {"lqf": [1, 1.1, 0.9], "fc": [5, 5.1, 5.2]},
        "unsure": {"lqf": [4, 5, 6], "fc": [6, 4, 7]},
        "lost": {"lqf": [9, 9.1, 9.2], "fc": [2, 2.2, 2.1]},
    }
    write(tmp_path, "comparison_runs.csv", runs_of(errors))
    ours = measured(tmp_path, "win_fraction", experiment="comparison", method="lqf", against=["fc"])
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((2 / 3, 1 / 3, 2 / 3, 3))


def test_a_single_seed_makes_no_win_certain_and_a_set_without_the_method_does_not_count(
    tmp_path: Path,
) -> None:
    errors = {
        name: {"lqf": [own], "fc": [2.0], "gaf": [2.0]} for name, own in (("a", 1.0), ("b", 3.0))
    }
    write(tmp_path, "comparison_runs.csv", runs_of({**errors, "c": {"fc": [2.0]}}))
    against = ["fc", "gaf"]
    ours = measured(
        tmp_path, "win_fraction", experiment="comparison", method="lqf", against=against
    )
    assert (ours.value, ours.low, ours.high, ours.n) == (0.5, 0, 1, 2)


def test_order_of_medians_is_negative_only_when_all_ascend(tmp_path: Path) -> None:
    rows = [
        {"dataset": d, "method": m, "rel_increase_pct": 10 * level + d}
        for d in range(4)
        for m, level in (("a", 0), ("b", 1), ("c", 3))
    ]
    write(tmp_path, "ablation.csv", rows)
    right = measured(tmp_path, "order_of_medians", experiment="ablation", methods=["a", "b", "c"])
    wrong = measured(tmp_path, "order_of_medians", experiment="ablation", methods=["a", "c", "b"])
    assert right.value == pytest.approx(-10)
    assert wrong.value == pytest.approx(20)


def test_interaction_is_what_the_second_ablation_adds(tmp_path: Path) -> None:
    effect = {"x": 5.0, "y": 20.0, "xy": 40.0}
    rows = [
        {"dataset": d, "method": m, "rel_increase_pct": value}
        for d in range(3)
        for m, value in effect.items()
    ]
    write(tmp_path, "ablation.csv", rows)
    ours = measured(
        tmp_path, "interaction", experiment="ablation", first="x", second="y", both="xy"
    )
    assert ours.value == pytest.approx(15)


def test_regret_of_one_rate_for_all(tmp_path: Path) -> None:
    errors = {"p": {0.1: 5.0, 0.01: 1.0}, "q": {0.1: 2.0, 0.01: 4.0}}
    rows = [
        {
            "dataset": d,
            "method": "nlft",
            "rate": rate,
            "batch": 16,
            "elr": rate,
            "val_mean": error,
            "err_mean": error,
            "n_diverged": 0,
        }
        for d, own in errors.items()
        for rate, error in own.items()
    ]
    write(tmp_path, "elr.csv", rows)
    best = [
        {"dataset": d, "method": "nlft", "err_mean": min(own.values())} for d, own in errors.items()
    ]
    write(tmp_path, "elr_best.csv", best)
    # Rate 0.01 is best on average (2.5 against 3.5); it costs q two points.
    assert measured(tmp_path, "elr_regret", method="nlft").value == pytest.approx(1.0)


def test_area_between_removal_curves(tmp_path: Path) -> None:
    curves = {"most": [0, 10, 20], "random": [0, 5, 10]}
    rows = [
        {"seed": 0, "removal": name, "schedule": "one_shot", "n_removed": n, "test_err": error}
        for name, errors in curves.items()
        for n, error in zip((0, 10, 20), errors, strict=True)
    ]
    write(tmp_path, "removal_runs.csv", rows)
    ours = measured(tmp_path, "removal_area", first="most", second="random", schedule="one_shot")
    assert ours.value == pytest.approx(5.0)
    with pytest.raises(NotTested, match="no removal curve least, one_shot"):
        measured(tmp_path, "removal_area", first="least", second="random", schedule="one_shot")


def test_online_gap_and_cost(tmp_path: Path) -> None:
    rows = [
        {"seed": 0, "step": step, "method": f"nlft_{mode}", "acc": acc, "visits": visits}
        for step in (1, 2, 3, 4)
        for mode, acc, visits in (("inc", 80 + step, 10), ("scratch", 84 + step, 40))
    ]
    write(tmp_path, "online_runs.csv", rows)
    assert measured(tmp_path, "online_gap", method="nlft").value == pytest.approx(4)
    assert measured(tmp_path, "online_cost_ratio", method="nlft").value == pytest.approx(0.25)
    with pytest.raises(NotTested, match="no results of"):
        measured(tmp_path, "online_gap", method="lqf")


REGULARIZED = [
    {"dataset": d, "shots": k, "noise": n, "method": m, "regularizer": r, "err_mean": e + extra}
    for d, extra in (("p", 0.0), ("q", 2.0))
    for m, r, errors in (
        ("nlft", "none", (30, 20, 10, 30)),
        ("elr", "elr", (28, 18, 9, 14)),
        ("l2_sp", "l2_sp", (25, 19, 8, 24)),
        ("lqf_exact", "none", (20, 15, 7, 11)),
    )
    for (k, n), e in zip(((1, 0), (5, 0), (20, 0), (20, 40)), errors, strict=True)
]


def test_what_wrong_labels_cost_is_compared_with_whoever_they_cost_least(tmp_path: Path) -> None:
    write(tmp_path, "regularized.csv", REGULARIZED)
    assert measured(tmp_path, "noise_cost", method="lqf_exact").value == pytest.approx(4 - 5)
    assert measured(tmp_path, "noise_cost", method="elr").value == pytest.approx(5 - 4)
    write(tmp_path, "regularized.csv", [row for row in REGULARIZED if row["noise"] == 0])
    with pytest.raises(NotTested, match="no wrong labels"):
        measured(Path(tmp_path), "noise_cost", method="elr")


def test_the_bias_of_leave_one_out_is_over_data_sets_and_needs_two_images_a_class(
    tmp_path: Path,
) -> None:
    rows = [
        {"dataset": d, "method": m, "counted": c, "gap": g}
        for d, m, c, g in (
            ("p", "lqf_exact", True, 2.0),
            ("p", "lqf_exact", True, 4.0),
            ("q", "lqf_exact", True, -1.0),
            ("q", "lqf_exact", False, 80.0),
            ("q", "ridge_head", True, 9.0),
        )
    ]
    write(tmp_path, "leave_one_out.csv", rows)
    assert measured(tmp_path, "leave_one_out_bias", method="lqf_exact").value == (3 - 1) / 2


def test_what_is_kept_is_compared_on_the_same_draws(tmp_path: Path) -> None:
    rows = [
        {"dataset": d, "method": "lqf_exact", "seed": s, "order": o, "share": k, "test_err": e + s}
        for s in (0, 1)
        for d, o, k, e in (
            *(("p", "fsi_again", 50, 10.0), ("p", "random", 50, 12.0)),
            *(("q", "fsi_again", 50, 30.0), ("q", "random", 50, 31.0)),
            *(("q", "fsi_again", 90, 0.0), ("q", "random", 90, 1.0)),
        )
    ]
    write(tmp_path, "summary_runs.csv", rows)
    found = measured(tmp_path, "kept_difference", first="fsi_again", second="random", at=50)
    assert (found.value, found.low, found.high, found.n) == (-1.5, -1.5, -1.5, 2)


def test_areas_are_between_curves_of_the_same_start_and_pool(tmp_path: Path) -> None:
    rows = [
        {
            "dataset": d,
            "method": "lqf_exact",
            "seed": s,
            "order": o,
            "mode": m,
            "n_train": n,
            "test_err": e - 10 * s,
        }
        for d, s in (("p", 0), ("p", 1), ("q", 0))
        for o, m, n, e in (
            *(("variance", "incremental", n, e) for n, e in ((4, 50), (6, 40), (10, 30))),
            *(("random", "incremental", n, e) for n, e in ((4, 50), (6, 44), (10, 30 + s))),
            *((o, "scratch", 10, 90) for o in ("variance", "random")),
        )
    ]
    write(tmp_path, "active_runs.csv", rows)
    found = measured(tmp_path, "chosen_area", first="variance", second="random")
    # −4 · (6/2)/6 = −2, and with another last point of seed 1 −2 − 1 · (4/2)/6.
    assert found.value == pytest.approx(-2 - (1 / 3) / 3)
    assert (found.n, found.interval) == (3, "95 % t interval over data sets and seeds")
    with pytest.raises(NotTested, match="of \\['margin'\\]"):
        measured(tmp_path, "chosen_area", first="margin", second="random")


def test_a_gap_is_that_to_the_best_regulariser(tmp_path: Path) -> None:
    write(tmp_path, "regularized.csv", REGULARIZED)
    gaps = {
        at: measured(tmp_path, "regularized_gap", reference="lqf_exact", at=at).value
        for at in (1, 5, 20)
    }
    assert gaps == pytest.approx({1: 25 - 20, 5: 18 - 15, 20: 8 - 7})
    with pytest.raises(NotTested, match="does not have lqf_exact"):
        measured(tmp_path, "regularized_gap", reference="lqf_exact", at=3)


def test_printed_results_have_both_tables() -> None:
    printed = PaperResults()
    assert len(printed.frame("comparison.csv")) == 50
    assert printed.frame("fine_grained.csv")["dataset"].nunique() == 3
    with pytest.raises(NotTested, match=r"kshot\.csv is not among the results"):
        printed.frame("kshot.csv")
