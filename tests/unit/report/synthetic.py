"""Invented runs, for tests only: raw CSVs of every experiment, of the shape that jobs write."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lqf import provenance
from lqf.run import COLUMNS, write_rows

MADE = {"settings": "0", "data": "1", "weights": "2", "version": 1, "torch": "3", "device": "cpu"}

# Invented test errors in %: of non-linear fine-tuning, and by how much methods exceed it.
SETS = ("digits", "greek", "cyrillic", "fonts", "accents", "styles", "textures")
BASE = dict(zip(SETS, (3.4, 6.0, 7.5, 22.0, 15.0, 12.0, 9.0), strict=True))
FACTOR = {
    "nlft": 1.0,
    "lqf": 1.15,
    "lqf_exact": 1.12,
    "lqf_euclidean": 1.3,
    "lqf_fc": 1.5,
    "gaf": 1.6,
    "fc": 1.9,
    "mpn_cov": 0.97,
    "b_lqf": 1.05,
    "lqf_no_mse": 1.5,
    "lqf_no_kfac": 1.35,
    "lqf_no_leaky": 1.2,
    "lqf_no_mse_kfac": 1.6,
    "lqf_no_mse_leaky": 1.55,
    "lqf_no_kfac_leaky": 1.5,
}

# Method -> error over that of NLFT, and what 1 % of wrong labels costs, in points.
REGULARIZED = {
    "nlft": (1.0, 0.5),
    "l2_sp": (0.9, 0.4),
    "ps_kd": (0.95, 0.45),
    "elr": (0.8, 0.1),
    "lqf_exact": (0.6, 0.2),
}

SETTINGS: dict[str, Any] = {
    "scale": "demo",
    "seeds": [0, 1, 2],
    "experiments": {
        "comparison": {
            "datasets": list(BASE),
            "methods": ["nlft", "lqf", "lqf_exact", "lqf_euclidean", "lqf_fc", "gaf", "fc"],
        },
        "ablation": {
            "datasets": list(BASE),
            "methods": ["lqf", *[name for name in FACTOR if name.startswith("lqf_no")], "gaf"],
        },
        "fine_grained": {
            "datasets": ["fonts", "accents", "styles"],
            "methods": ["nlft", "mpn_cov", "b_lqf", "lqf", "gaf", "fc"],
        },
        "elr": {
            "datasets": list(BASE),
            "methods": ["lqf", "nlft"],
            "rates": [0.05, 0.01, 0.005, 0.001, 0.0001],
            "batches": [16, 32, 64],
            "epochs": 10,
        },
        "spectrum": {"dataset": "digits", "samples": 40},
        "kshot": {
            "datasets": list(BASE),
            "methods": ["lqf", "nlft"],
            "shots": [1, 2, 5, 10, "all"],
        },
        "online": {
            "dataset": "cyrillic",
            "methods": ["lqf", "nlft"],
            "steps": 30,
            "per_step": 10,
            "max_epochs": 60,
        },
        "informativeness": {"dataset": "digits", "shown": 25, "removals": [0, 8, 16, 32, 64, 96]},
        "regularized": {
            "datasets": list(BASE),
            "methods": list(REGULARIZED),
            "shots": [1, 5, 20],
            "noise": [0, 20, 40],
        },
        "summary": {
            "datasets": ["greek", "fonts"],
            "methods": ["lqf_exact"],
            "images": 100,
            "keep": [10, 50, 100],
        },
        "active": {
            "datasets": ["greek", "fonts"],
            "methods": ["lqf_exact"],
            "images": 100,
            "start": 2,
            "steps": 2,
        },
        "leave_one_out": {
            "methods": ["lqf_exact", "lqf_euclidean"],
            "rows_of": {
                "train": {"datasets": list(BASE), "methods": ["lqf_exact", "lqf_euclidean"]},
                "kshot": {"datasets": list(BASE), "methods": []},
            },
        },
    },
}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as a job would."""
    write_rows(path, rows, list(rows[0]))
    sign(path)


def sign(path: Path) -> None:
    """Writes `run.json` beside a file, or adds to it, as its job would have."""
    record = path.with_name(provenance.RECORD)
    files = json.loads(record.read_text())["files"] if record.exists() else {}
    files[path.name] = provenance.digest(path)
    written = {"made_from": MADE, "processor": "a processor", "files": files}
    record.write_text(json.dumps(provenance.sealed(written)))


def metrics_row(dataset: str, method: str, seed: int, error: float, **more: Any) -> dict[str, Any]:
    """A row of metrics.csv; an error that is not finite makes it a diverged one."""
    error = min(error, 100.0) if math.isfinite(error) else error
    row = dict.fromkeys(COLUMNS, "") | {"status": "ok", "wall_s": time.perf_counter()}
    row |= {"dataset": dataset, "method": method, "seed": seed, "n_train": 160, "n_test": 500}
    row |= {"classes": 10, "damping": 1e-4, "rate": 0.01, "batch": 32, "elr": 0.01 / (0.1 * 32)}
    row |= {"weight_decay": 1e-4, "mu": 0.016, "epochs": 30, "passes": 30, "batch_norm": "frozen"}
    row |= {"train_err": 0.0, "val_err": error, "test_err": error, "train_loss": 0.01}
    row |= {"loo_err": 1.1 * error, "selected_val": False, "selected_test": False}
    if not math.isfinite(error):
        row |= dict.fromkeys(("train_err", "loo_err", "val_err", "test_err", "train_loss"), "")
        row |= {"status": "diverged", "message": "loss is NaN in epoch 3 at rate 0.01"}
    return row | more


def write_metrics(runs: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows of one job where that job would."""
    first = rows[0]
    folder = runs / kind / first["dataset"] / first["method"] / str(first["seed"])
    write_csv(folder / "metrics.csv", rows)
    return folder / "metrics.csv"


def mark(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks the best row on validation and on test."""
    fine = [row for row in rows if row["status"] == "ok"]
    if fine:
        min(fine, key=lambda row: row["val_err"])["selected_val"] = True
        min(fine, key=lambda row: row["test_err"])["selected_test"] = True
    return rows


def two_rates(*run: Any, **more: Any) -> list[dict[str, Any]]:
    """Rows of two rates, the second a fifth worse: data set, method, seed and error."""
    *named, error = run
    grid = ((0.1, abs(error)), (0.01, 1.2 * abs(error)))
    return mark([metrics_row(*named, one, rate=rate, **more) for rate, one in grid])


def _train(runs: Path, random: np.random.Generator) -> None:
    for dataset, base in BASE.items():
        for method, factor in FACTOR.items():
            factor = factor * math.exp(random.normal(0, 0.12)) if method != "nlft" else factor
            for seed in range(3):
                rows = []
                for rate, decay in itertools.product((0.1, 0.01), (1e-3, 1e-4)):
                    worse = 1.3 if rate == 0.01 else math.inf if method == "gaf" else 1.0
                    error = round(base * factor * worse + random.normal(0, 0.4), 1)
                    more = {"rate": rate, "weight_decay": decay}
                    if math.isfinite(error):
                        more["val_err"] = round(error + random.normal(0, 0.5), 1)
                    rows.append(metrics_row(dataset, method, seed, error, **more))
                write_metrics(runs, "train", mark(rows))


def _elr(runs: Path, random: np.random.Generator) -> None:
    section = SETTINGS["experiments"]["elr"]
    for dataset, method in itertools.product(BASE, section["methods"]):
        best = random.normal(-2.9, 0.7) if method == "nlft" else random.normal(-2.5, 0.15)
        for seed in range(3):
            rows = []
            for rate, batch in itertools.product(section["rates"], section["batches"]):
                elr = rate / (0.1 * batch)
                width = 1.5 if method == "nlft" else 0.5
                error = BASE[dataset] * (
                    FACTOR[method] + width * (math.log10(elr) - best) ** 2 + random.uniform(0, 0.05)
                )
                error = math.inf if method == "nlft" and rate == 0.05 and batch == 16 else error
                rows.append(
                    metrics_row(dataset, method, seed, error, rate=rate, batch=batch, elr=elr)
                )
            write_metrics(runs, "elr", mark(rows))


def _kshot(runs: Path, random: np.random.Generator) -> None:
    for dataset, method in itertools.product(BASE, ("lqf", "nlft")):
        for seed in range(3):
            rows = []
            for shots in SETTINGS["experiments"]["kshot"]["shots"]:
                k = 16 if shots == "all" else shots
                gain = 1.0 if method == "nlft" else 0.7 + 0.035 * k + 0.8 * (dataset == "fonts")
                error = min(95.0, 60 * gain * (BASE[dataset] / 60) ** (math.log(k) / math.log(16)))
                error += random.normal(0, 0.5)
                rows += two_rates(dataset, method, seed, error, shots=shots, n_train=10 * k)
            write_metrics(runs, "kshot", rows)


def _regularized(runs: Path, random: np.random.Generator) -> None:
    conditions = [(1, 0), (5, 0), (20, 0), (20, 20), (20, 40)]
    for dataset, method, seed in itertools.product(BASE, REGULARIZED, range(3)):
        factor, cost = REGULARIZED[method]
        rows = []
        for shots, noise in conditions:
            error = BASE[dataset] * factor * shots**-0.2 + cost * noise + random.normal(0, 0.3)
            more = {"shots": shots, "noise": noise, "n_train": 10 * shots}
            more["regularizer"] = method if method in ("l2_sp", "ps_kd", "elr") else "none"
            rows += two_rates(dataset, method, seed, error, **more)
        write_metrics(runs, "regularized", rows)


def _summary(runs: Path, random: np.random.Generator) -> None:
    for dataset, seed in itertools.product(("greek", "fonts"), range(3)):
        rows = []
        for order, share in itertools.product(
            ("fsi", "fsi_again", "random", "k_centre", "herding"), (10, 50, 100)
        ):
            error = (
                BASE[dataset]
                + (100 - share) / (4 if order == "random" else 5)
                + random.normal(0, 0.3)
            )
            more = {
                "order": order,
                "share": share,
                "n_train": share,
                "classes_kept": 9 + (share > 10),
            }
            rows.append(metrics_row(dataset, "lqf_exact", seed, error, **more))
        write_metrics(runs, "summary", rows)


def _active(runs: Path, random: np.random.Generator) -> None:
    for dataset, seed in itertools.product(("greek", "fonts"), range(3)):
        rows = []
        for order, (mode, step) in itertools.product(
            ("variance", "margin", "random"),
            (("incremental", 0), ("incremental", 1), ("incremental", 2), ("scratch", 2)),
        ):
            error = BASE[dataset] + 5 * (3 - step) * (order == "random") + random.normal(0, 0.3)
            more = {"order": order, "mode": mode, "step": step, "n_train": 20 + 10 * step}
            rows.append(metrics_row(dataset, "lqf_exact", seed, error, passes=2, **more))
        write_metrics(runs, "active", rows)


def _online(runs: Path, random: np.random.Generator) -> None:
    for method, seed in itertools.product(("lqf", "nlft"), range(3)):
        rows = []
        for mode, step in itertools.product(("incremental", "scratch"), range(1, 31)):
            gap = 4.0 if (method, mode) == ("nlft", "incremental") else 0.0
            error = 8 + 40 * math.exp(-step / 8) + gap + random.normal(0, 0.4) + (method == "lqf")
            epochs = 8 if mode == "incremental" else 20 + step // 2
            more = {"mode": mode, "step": step, "n_train": 10 * step}
            more |= {"epochs": epochs, "passes": epochs}
            rows += mark([metrics_row("cyrillic", method, seed, error, **more)])
        write_metrics(runs, "online", rows)


def _samples(runs: Path, random: np.random.Generator) -> None:
    removals = SETTINGS["experiments"]["informativeness"]["removals"]
    for seed in range(3):
        folder = runs / "informativeness" / "digits" / str(seed)
        scores = [
            {
                "index": i,
                "row": 3 * i,
                "label": i % 10,
                "class": str(i % 10),
                "fsi_exact": one,
                "fsi_eq8": one**0.5 * random.lognormal(0, 0.5),
                "fsi_kfac": one * random.lognormal(0, 0.2),
                "leverage": random.uniform(),
                "loo_error": float(random.uniform() < 0.1),
            }
            for i, one in enumerate(random.lognormal(0, 1, 160))
        ]
        write_csv(folder / "scores.csv", scores)
        # Random removal comes last: it has one schedule.
        slope = {"most": 0.12, "least": 0.02, "random": 0.06}
        rows = []
        ways = [*itertools.product(slope, ("one_shot", "iterative"))]
        for (removal, schedule), n in itertools.product(ways[:-1], removals):
            worse = slope[removal] * n * (0.7 if schedule == "iterative" else 1)
            row = {"removal": removal, "schedule": schedule, "n_removed": n, "n_train": 160 - n}
            rows.append({**row, "test_err": 5 + worse + random.normal(0, 0.2)})
        write_csv(folder / "removal.csv", rows)
        spectrum = []
        phases = {"init": (-1.0, 1.2), "end": (0.0, 0.7)}
        for matrix, (phase, (centre, width)) in itertools.product(
            ("squared", "cross_entropy"), phases.items()
        ):
            values = np.sort(10 ** random.normal(centre, width, 400))[::-1]
            about = {"phase": phase, "matrix": matrix, "n_samples": 40, "ridge": 1e-4}
            about["effective_dimension"] = 400 * centre**2 + width
            spectrum += [{**about, "index": i, "eigenvalue": v} for i, v in enumerate(values)]
        path = runs / "spectrum" / "digits" / str(seed) / "spectrum.csv"
        write_csv(path, spectrum)


def write_world(root: Path) -> Path:
    """Writes invented runs of all experiments and a data set; returns runs/demo."""
    runs, random = root / "runs" / "demo", np.random.default_rng(7)
    for part in (_train, _elr, _kshot, _online, _samples, _regularized, _summary, _active):
        part(runs, random)
    (root / "data" / "demo" / "digits").mkdir(parents=True)
    images = random.integers(0, 256, (600, 24, 24, 3), dtype=np.uint8)
    np.save(root / "data" / "demo" / "digits" / "images.npy", images)
    return runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/demo with every experiment in it; not to be changed."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def results(runs: Path) -> Path:
    """results/demo aggregated from them, with claims.csv; not to be changed."""
    from claim_lists import CLAIMS

    from lqf.report.aggregate import aggregate
    from lqf.report.claims import claims

    output = runs.parent.parent / "results" / "demo"
    aggregate(runs, output, SETTINGS)
    claims(output, output / "claims.csv", CLAIMS)
    return output
