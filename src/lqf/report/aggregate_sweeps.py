"""Learning rates, shots and steps: Figures 1 (right), 4 and 5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.report.aggregate_errors import Frames, dataset_columns
from lqf.report.raw import order_by, read_metrics, select
from lqf.report.statistics import relative_increase, standard_deviation, summed_up

MODES = {"incremental": "inc", "scratch": "scratch"}


def elr(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 1 (right): the error at every rate and batch size, and the best of them.

    A point at which any seed diverged cannot be the best one. Several points often share the least
    validation error; then the middle one, in the order of effective learning rates, is the best.
    """
    raw = read_metrics(runs, "elr", section, seeds)
    points = []
    for key, rows in raw.groupby(["dataset", "method", "rate", "batch"], sort=True):
        fine = rows[rows["status"] == "ok"]
        point = dict(zip(("dataset", "method", "rate", "batch"), key, strict=True))
        points.append(
            {
                **point,
                "elr": rows["elr"].iloc[0],
                "val_mean": fine["val_err"].mean(),
                "err_mean": fine["test_err"].mean(),
                "err_std": standard_deviation(fine["test_err"]),
                "n_seeds": len(fine),
                "n_diverged": len(rows) - len(fine),
                "status": "ok" if len(fine) else "diverged",
            }
        )
    frame = pd.DataFrame(points).sort_values(
        ["dataset", "method", "elr", "batch"], ignore_index=True
    )
    best = []
    for (dataset, method), rows in frame.groupby(["dataset", "method"], sort=True):
        title = dataset_columns(str(dataset), section)["title"]
        row: dict[str, Any] = {"dataset": dataset, "title": title, "method": method}
        row["n_seeds"] = int(rows["n_seeds"].max())
        fine = rows[rows["n_diverged"] == 0]
        for suffix, column in (("", "val_mean"), ("_on_test", "err_mean")):
            chosen, tied = _middle_of_best(fine, column)
            row[f"best_elr{suffix}"] = chosen["elr"] if chosen is not None else np.nan
            row[f"err_mean{suffix}"] = chosen["err_mean"] if chosen is not None else np.nan
            row[f"n_tied{suffix}"] = tied
        row["at_edge"] = row["best_elr"] in (rows["elr"].min(), rows["elr"].max())
        row |= {"n_points": len(rows), "n_diverged": int((rows["n_diverged"] > 0).sum())}
        best.append(row)
    orders = {"dataset": section["datasets"], "method": section["methods"]}
    return {
        "elr.csv": order_by(frame, **orders),
        "elr_best.csv": order_by(pd.DataFrame(best), **orders),
    }


def _middle_of_best(rows: pd.DataFrame, column: str) -> tuple[pd.Series | None, int]:
    """The middle one of the rows with the least value of a column, and how many they are."""
    if rows.empty:
        return None, 0
    tied = rows[rows[column] <= rows[column].min() + 1e-9]
    return tied.iloc[(len(tied) - 1) // 2], len(tied)


def kshot(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 4: LQF and NLFT trained on the same few samples a class.

    `shots` is a number or `full`.

    Raises:
        ValueError: One of the two methods is not among the experiment's.
    """
    if not {"lqf", "nlft"} <= set(section["methods"]):
        raise ValueError(
            f"aggregate: experiments.kshot.methods is {section['methods']}; "
            "Figure 4 compares lqf with nlft, so both must be in it."
        )
    raw = read_metrics(runs, "kshot", section, seeds, extra=["shots"])
    raw["shots"] = raw["shots"].fillna("full").replace("", "full")
    chosen = select(raw, ["dataset", "method", "seed", "shots"], "selected_val")
    keys = ["shots", "n_train", "dataset", "seed"]
    table = chosen.pivot(index=keys, columns="method", values="test_err")
    table = table.rename(columns=lambda method: f"err_{method}").reset_index()
    table.columns.name = None
    table["rel_diff_pct"] = relative_increase(table["err_lqf"], table["err_nlft"])
    table["diff"] = table["err_lqf"] - table["err_nlft"]
    means = []
    for (shots, dataset), rows in table.groupby(["shots", "dataset"], sort=True):
        both = rows.dropna(subset=["err_lqf", "err_nlft"])
        lqf, nlft = both["err_lqf"].mean(), both["err_nlft"].mean()
        means.append(
            {
                "shots": shots,
                "n_train": rows["n_train"].iloc[0],
                "dataset": dataset,
                "title": dataset_columns(str(dataset), section)["title"],
                "err_lqf": lqf,
                "err_nlft": nlft,
                "diff": lqf - nlft,
                "rel_diff_pct": float(relative_increase(lqf, nlft)),
                "n_seeds": len(both),
                "n_runs": len(rows),
            }
        )
    ascending = sorted(
        table["shots"].unique(), key=lambda one: float("inf" if one == "full" else one)
    )
    orders = {"shots": ascending, "dataset": section["datasets"]}
    return {
        "kshot.csv": order_by(pd.DataFrame(means), **orders),
        "kshot_runs.csv": order_by(table, **orders),
    }


def online(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 5: accuracy and cost at every step, incremental and from scratch.

    Methods are called lqf_inc, lqf_scratch, nlft_inc, nlft_scratch. Accuracy in %; `visits` is the
    number of training samples visited at a step.
    """
    raw = read_metrics(runs, "online", section, seeds, extra=["mode", "step"])
    chosen = select(raw, ["dataset", "method", "seed", "mode", "step"], "selected_val")
    chosen["method"] = chosen["method"] + "_" + chosen["mode"].map(MODES)
    chosen["acc"] = 100 - chosen["test_err"].astype(float)
    passes = chosen["passes"].fillna(chosen["epochs"]).astype(float)
    chosen["visits"] = passes * chosen["n_train"]
    chosen["n_seen"] = chosen["n_train"]
    order = {"method": [f"{m}_{mode}" for m in section["methods"] for mode in MODES.values()]}
    keys = ["dataset", "method", "seed", "step", "n_seen"]
    columns = [*keys, "status", "acc", "train_err", "epochs", "passes", "visits"]
    single = chosen[columns].sort_values(keys, ignore_index=True)
    limit = section.get("max_epochs")
    means = []
    for key, rows in single.groupby(["dataset", "method", "step"], sort=True):
        fine = rows[rows["status"] == "ok"]
        means.append(
            {
                **dict(zip(("dataset", "method", "step"), key, strict=True)),
                "title": dataset_columns(str(key[0]), section)["title"],
                "n_seen": rows["n_seen"].mean(),
                **summed_up("acc", fine["acc"]),
                "n_runs": len(rows),
                "epochs_mean": fine["epochs"].mean(),
                "visits_mean": fine["visits"].mean(),
                "n_capped": int((fine["epochs"] >= limit).sum()) if limit else 0,
            }
        )
    return {
        "online.csv": order_by(pd.DataFrame(means), **order),
        "online_runs.csv": order_by(single, **order),
    }
