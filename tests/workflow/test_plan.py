"""What Snakemake plans, asked of Snakemake itself with dry runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lqf import config
from lqf.report import artefacts

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "config/config.yaml"
DEMO = str(ROOT / "config/demo.yaml")
Run = Callable[..., subprocess.CompletedProcess[str]]
TRAINING = {"backbone", "train", "elr", "kshot", "online", "informativeness", "spectrum"}


def planned(output: str) -> dict[str, int]:
    """Number of jobs of each rule in the output of a dry run."""
    table = output.partition("Job stats:")[2].partition("\n\n")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def results(folder: Path, scale: str, experiments: list[str]) -> list[Path]:
    """Files where committed results would be; their content does not matter to a plan."""
    names = [*artefacts.aggregated_files(experiments), artefacts.CLAIMS_FILE]
    files = [folder / "results" / scale / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


def test_dropped_experiment_drops_its_jobs_and_artefacts(snakemake: Run, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("experiments: {online: null, informativeness: null}\n")

    done = snakemake("-n", "--configfile", DEMO, str(overlay))

    assert done.returncode == 0, done.stdout
    assert "informativeness" not in planned(done.stdout)
    assert "figure5" not in done.stdout
    assert "figure6" not in done.stdout
    assert "figure4" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "newer"),
    [((), "data"), (("--configfile", DEMO), "results"), (("--configfile", DEMO), "figures")],
)
def test_figures_of_committed_results_plan_no_training(
    snakemake: Run, tmp_path: Path, arguments: tuple[str, ...], newer: str
) -> None:
    experiments = list(artefacts.AGGREGATED)
    committed = results(tmp_path, "demo", experiments)
    drawn = [
        tmp_path / "figures/demo" / name
        for one in artefacts.select(experiments)
        for name in one.outputs()
    ]
    data = [
        tmp_path / "data/demo" / name / file
        for name in ("letters", "digits", "greek")
        for file in ("images.npy", "index.csv", "dataset.json", "contact_sheet.png")
    ]
    for file in (*drawn, *data):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"classes": []}' if file.name == "dataset.json" else "")
    groups = {"data": data, "results": committed, "figures": drawn}
    for name, files in groups.items():
        for file in files:
            os.utime(file, (2e9, 2e9) if name == newer else (1e9, 1e9))

    done = snakemake("-n", "figures", *arguments)

    assert done.returncode == 0, done.stdout
    plan = planned(done.stdout)
    assert not TRAINING & set(plan)
    assert "prepare" not in plan
    assert not [rule for rule in plan if rule.startswith("aggregate")]
    if newer == "results":
        assert plan["figure"] == len(artefacts.select(experiments, "figure"))
        assert plan["table"] == len(artefacts.select(experiments, "table"))
        assert plan["caption"] == len(artefacts.select(experiments))


def test_another_rule_of_a_claim_decides_and_captions_and_draws_nothing(
    snakemake: Run, tmp_path: Path
) -> None:
    experiments = list(artefacts.AGGREGATED)
    *aggregated, claims = results(tmp_path, "demo", experiments)
    targets = ("figures", "tables", "results/demo/report.html", "--configfile", DEMO)
    tables = artefacts.select(experiments, "table")
    pages = [tmp_path / f"figures/demo/{one.name}.html" for one in tables]
    drawn = [
        *(
            tmp_path / "figures/demo" / n
            for one in artefacts.select(experiments)
            for n in one.outputs()
        ),
        tmp_path / "results/demo/report.html",
    ]
    for files, age in ((aggregated, 4e8), (drawn, 1e8), (pages, 1e8), ([claims], 2e8)):
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            os.utime(file, (1e9 + age, 1e9 + age))
    # Snakemake writes down what all of it was made with, and makes nothing.
    recorded = snakemake("--touch", "--cores", "1", *targets)
    assert recorded.returncode == 0, recorded.stdout
    assert "Nothing to be done" in snakemake("-n", *targets).stdout
    rule = config.load(PAPER)["claims"]
    rule[0]["rule"]["holds"] = "low >= 0.9"
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"claims": rule}))

    done = snakemake("-n", *targets, str(overlay))

    assert done.returncode == 0, done.stdout
    plan = planned(done.stdout)
    assert plan.pop("total") == sum(plan.values())
    aims = {"figures": 1, "tables": 1}
    captions = len(artefacts.select(experiments))
    assert {k: n for k, n in plan.items() if k not in aims} == {
        "claims": 1,
        "caption": captions,
        "report_page": 1,
    }


def test_a_job_without_output_is_planned_where_its_stale_input_is_made_again(
    snakemake: Run, tmp_path: Path
) -> None:
    prepared = [
        tmp_path / "data/demo" / name / file
        for name in ("letters", "digits")
        for file in ("images.npy", "index.csv", "dataset.json", "contact_sheet.png")
    ]
    backbones = [
        tmp_path / f"runs/demo/backbone/{seed}/leaky_relu.safetensors" for seed in range(3)
    ]
    for file in (*prepared, *backbones):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"classes": []}' if file.name == "dataset.json" else "")
        os.utime(file, (2e9, 2e9) if "letters" in file.parts else (1e9, 1e9))

    done = snakemake("-n", "runs/demo/train/digits/lqf/0/metrics.csv", "--configfile", DEMO)

    plan = planned(done.stdout)
    assert plan == {"backbone": 3, "train": 1, "total": 4}


def test_weights_by_path_are_known_by_content_not_by_age(snakemake: Run, tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    overlay = tmp_path / "overlay.yaml"
    given = {"relu": weights.name, "leaky_relu": weights.name}
    backbone = {"network": "squeezenet1_1", "pretrain": None, "weights": given}
    overlay.write_text(json.dumps({"backbone": backbone}))
    runs = [tmp_path / f"runs/demo/train/digits/fc/{seed}/metrics.csv" for seed in range(3)]
    data = [tmp_path / "data/demo/digits" / name for name in ("images.npy", "index.csv")]
    for age, file in enumerate(
        (weights, *data, tmp_path / "runs/demo/backbone/relu.safetensors", *runs)
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("some")
        os.utime(file, (1e9 + age, 1e9 + age))
    for name in ("dataset.json", "contact_sheet.png"):
        data[0].with_name(name).write_text('{"classes": []}')
    target = ("runs/demo/train/digits/fc/0/metrics.csv", "--configfile", DEMO, str(overlay))
    assert snakemake("--touch", "--forceall", "--cores", "1", *target).returncode == 0

    os.utime(weights)
    assert "Nothing to be done" in snakemake("-n", *target).stdout
    weights.write_text("other")
    assert planned(snakemake("-n", *target).stdout) == {"backbone": 1, "train": 1, "total": 2}


def test_all_of_a_clone_with_committed_results_trains_everything(
    snakemake: Run, tmp_path: Path
) -> None:
    empty = planned(snakemake("-n", "--configfile", DEMO).stdout)
    results(tmp_path, "demo", list(artefacts.AGGREGATED))

    done = snakemake("-n", "--configfile", DEMO)

    plan = planned(done.stdout)
    assert {rule: plan.get(rule) for rule in TRAINING} == {rule: empty[rule] for rule in TRAINING}
    assert plan["aggregate_comparison"] == 1


def test_figures_draw_only_experiments_with_results(snakemake: Run, tmp_path: Path) -> None:
    results(tmp_path, "demo", ["comparison"])

    done = snakemake("-n", "figures")

    assert "figures/demo/table1.csv" in done.stdout
    assert "table2" not in done.stdout


def test_figures_without_results_are_refused(snakemake: Run) -> None:
    done = snakemake("-n", "figures")

    assert done.returncode != 0
    assert "nothing to draw" in done.stdout


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        (
            "training: {sgd: {rates: [-0.1]}}",
            "config key 'training.sgd.rates[0]' is -0.1: it must be greater than 0.",
        ),
        (
            "image_size: 8\nimage_size: 9",
            "overlay.yaml, line 2: the key 'image_size' is there already",
        ),
    ],
)
def test_bad_configuration_is_refused_in_a_dry_run(
    snakemake: Run, tmp_path: Path, overlay: str, sentence: str
) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(overlay + "\n")

    done = snakemake("-n", "--configfile", DEMO, str(file))

    assert done.returncode != 0
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    assert "Building DAG" not in done.stdout


def test_an_empty_class_of_prepared_data_is_refused_before_any_job(
    snakemake: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "demo" / "digits"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text('{"classes": ["0", "1"]}')
    rows = [f"0,0,0,{split},here,0" for split in ("train", "val", "test")]
    (folder / "index.csv").write_text("\n".join(["row,class,label,split,source,sha256", *rows]))

    done = snakemake("-n", "--configfile", DEMO)

    assert done.returncode != 0
    assert "no image of class '1' in split 'train'" in done.stdout
    assert "Building DAG" not in done.stdout
