"""Learning rates, shots, steps, wrong labels, leave-one-out, chosen images: Figures 1 (right), 4, 5, 7 to 10, Tables 3 and 4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.report.aggregate_errors import Frames, dataset_columns
from lqf.report.raw import order_by, read_metrics, select
from lqf.report.statistics import relative_increase, summed_up
from lqf.report.words import CHOSEN, KEPT

MODES = {"incremental": "inc", "scratch": "scratch"}


def elr(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 1 (right): the error at every rate and batch size, and the best of them.

    A point at which any seed diverged cannot be the best one. Several points often share the least
    validation error; then the middle one, in the order of effective learning rates, is the best.
    """
    raw = read_metrics(runs, "elr", section, seeds)
    fine = raw["status"] == "ok"
    raw = raw.assign(**raw[["val_err", "test_err"]].where(fine), fine=fine, gone=~fine)
    frame = raw.groupby(["dataset", "method", "rate", "batch"], as_index=False).agg(
        elr=("elr", "first"),
        val_mean=("val_err", "mean"),
        err_mean=("test_err", "mean"),
        err_std=("test_err", "std"),
        n_seeds=("fine", "sum"),
        n_diverged=("gone", "sum"),
    )
    frame["status"] = np.where(frame["n_seeds"] > 0, "ok", "diverged")
    frame = frame.sort_values(["dataset", "method", "elr", "batch"], ignore_index=True)
    best = []
    for (dataset, method), rows in frame.groupby(["dataset", "method"], sort=True):
        title = dataset_columns(str(dataset), section)["title"]
        row: dict[str, Any] = {"dataset": dataset, "title": title, "method": method}
        row["n_seeds"] = int(rows["n_seeds"].max())
        safe = rows[rows["n_diverged"] == 0]
        for suffix, column in (("", "val_mean"), ("_on_test", "err_mean")):
            tied = safe.loc[safe[column] <= safe[column].min() + 1e-9, ["elr", "err_mean"]]
            middle = tied[(len(tied) - 1) // 2 :].head(1).mean()  # NaN if there is none.
            row[f"best_elr{suffix}"], row[f"err_mean{suffix}"] = middle["elr"], middle["err_mean"]
            row[f"n_tied{suffix}"] = len(tied)
        row["at_edge"] = row["best_elr"] in (rows["elr"].min(), rows["elr"].max())
        row |= {"n_points": len(rows), "n_diverged": int((rows["n_diverged"] > 0).sum())}
        best.append(row)
    orders = {"dataset": section["datasets"], "method": section["methods"]}
    return {
        "elr.csv": order_by(frame, **orders),
        "elr_best.csv": order_by(pd.DataFrame(best), **orders),
    }


def kshot(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 4: LQF and NLFT trained on the same few samples a class.

    `shots` is a number, or `all` for the whole training set; `per_class` the mean number of images
    of a class that were drawn.
    """
    raw = read_metrics(runs, "kshot", section, seeds, extra=["shots", "classes"])
    chosen = select(raw, ["dataset", "method", "seed", "shots"], "selected_val")
    chosen["per_class"] = chosen["n_train"] / chosen["classes"]
    keys = ["shots", "n_train", "per_class", "dataset", "seed"]
    table = chosen.pivot(index=keys, columns="method", values="test_err")
    # All runs of a method may be missing.
    table = (
        table.reindex(columns=sorted(section["methods"]))
        .add_prefix("err_")
        .rename_axis(columns=None)
        .reset_index()
    )
    table["rel_diff_pct"] = relative_increase(table["err_lqf"], table["err_nlft"])
    table["diff"] = table["err_lqf"] - table["err_nlft"]
    pair = table[["err_lqf", "err_nlft"]]
    paired = table.assign(**pair.where(pair.notna().all(axis=1)))
    means = paired.groupby(["shots", "dataset"], as_index=False).agg(
        n_train=("n_train", "first"),
        per_class=("per_class", "first"),
        err_lqf=("err_lqf", "mean"),
        err_nlft=("err_nlft", "mean"),
        n_seeds=("err_lqf", "count"),
        n_runs=("seed", "size"),
    )
    means["title"] = [dataset_columns(one, section)["title"] for one in means["dataset"]]
    means["diff"] = means["err_lqf"] - means["err_nlft"]
    means["rel_diff_pct"] = relative_increase(means["err_lqf"], means["err_nlft"])
    columns = ["shots", "n_train", "per_class", "dataset", "title", "err_lqf", "err_nlft", "diff"]
    columns += ["rel_diff_pct", "n_seeds", "n_runs"]
    ascending = sorted(table["shots"].unique(), key=lambda k: float("inf" if k == "all" else k))
    orders = {"shots": ascending, "dataset": section["datasets"]}
    return {
        "kshot.csv": order_by(means[columns], **orders),
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
    limit = section.get("max_epochs") or np.inf
    fine = single[["acc", "epochs", "visits"]].where(single["status"] == "ok")
    fine["capped"] = fine["epochs"] >= limit
    keys = ["dataset", "method", "step"]
    groups = single.assign(**fine).groupby(keys)
    means = groups.agg(n_seen=("n_seen", "mean")).join(summed_up("acc", groups["acc"]))
    means = means.join(
        groups.agg(
            n_runs=("seed", "size"),
            epochs_mean=("epochs", "mean"),
            visits_mean=("visits", "mean"),
            n_capped=("capped", "sum"),
        )
    ).reset_index()
    means.insert(3, "title", [dataset_columns(one, section)["title"] for one in means["dataset"]])
    return {
        "online.csv": order_by(means, **order),
        "online_runs.csv": order_by(single, **order),
    }


def regularized(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Table 3 and Figure 7: the test error by images a class and percentage of wrong labels."""
    condition = ["shots", "noise"]
    raw = read_metrics(runs, "regularized", section, seeds, extra=[*condition, "regularizer"])
    raw["shots"] = raw["shots"].astype(int)
    keys = [*condition, "dataset", "method", "regularizer"]
    chosen = select(raw, [*keys, "seed"], "selected_val")
    groups = chosen.assign(edge=chosen["at_edge"] != "").groupby(keys)
    means = summed_up("err", groups["test_err"]).join(
        groups.agg(n_runs=("seed", "size"), n_at_edge=("edge", "sum"))
    )
    means = means.reset_index()
    titles = {name: dataset_columns(name, section)["title"] for name in section["datasets"]}
    means.insert(len(keys), "title", means["dataset"].map(titles))
    orders = {
        "noise": section["noise"],
        "shots": sorted(section["shots"]),
        "dataset": section["datasets"],
        "method": section["methods"],
    }
    single = chosen[[*keys, "seed", "n_train", "status", "test_err", "at_edge"]]
    return {
        "regularized.csv": order_by(means, **orders),
        "regularized_runs.csv": order_by(single, **orders),
    }


def leave_one_out(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 8: leave-one-out and test error of every exact fit of comparison and kshot.

    `per_class` is the mean number of training images of a class. `counted` are the fits that have two or more:
    without its only image a class is unknown.
    """
    extra = ["loo_err", "classes"]
    parts = [
        read_metrics(runs, kind, {**section, **other}, seeds, extra).assign(kind=kind)
        for kind, other in section["rows_of"].items()
        if other["methods"]
    ]
    raw = pd.concat(parts, ignore_index=True)
    rows = select(raw, ["kind", "dataset", "method", "seed", "shots"], "selected_val")
    rows["loo_err"] = rows["loo_err"].where(rows["status"] == "ok")
    rows["per_class"] = rows["n_train"] / rows["classes"]
    rows["counted"] = rows["per_class"] >= 2
    rows["gap"] = rows["loo_err"] - rows["test_err"]
    rows["title"] = [dataset_columns(one, section)["title"] for one in rows["dataset"]]
    columns = ["kind", "dataset", "title", "method", "seed", "n_train", "n_test", "per_class"]
    columns += ["loo_err", "test_err", "gap", "counted"]
    orders = {"method": section["methods"], "dataset": sorted(set(rows["dataset"]))}
    return {"leave_one_out.csv": order_by(rows[columns], **orders)}


def summary(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 9: the test error with a share of the training images, by the order that keeps them."""
    raw = read_metrics(
        runs, "summary", section, seeds, extra=["order", "share", "classes_kept", "classes"]
    )
    raw["lost"] = raw["classes"] - raw["classes_kept"]
    more = {"n_train": "mean", "classes": "first", "lost": "mean"}
    return _by_order("summary", raw, section, ["order", "share"], KEPT, more, ["classes_kept"])


def active(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Table 4 and Figure 10: the test error by the order that chooses, a row a step.

    `mode` is incremental, or scratch where what was chosen last was fitted again from the start.
    """
    raw = read_metrics(runs, "active", section, seeds, extra=["order", "mode", "step"])
    more = {"n_train": "mean", "passes": "mean"}
    keys = ["order", "mode", "step"]
    return _by_order("active", raw, section, keys, CHOSEN, more, ["passes"])


def _by_order(
    name: str,
    raw: pd.DataFrame,
    section: dict[str, Any],
    by: list[str],
    orders: Iterable[str],
    more: dict[str, str],
    shown: list[str],
) -> Frames:
    """Means over seeds of the test error and of ``more``, and the single runs, with what is ``shown`` of them."""
    keys = ["dataset", "method", *by]
    raw = raw.sort_values([*keys, "seed"], ignore_index=True)
    groups = raw.groupby(keys)
    means = summed_up("err", groups["test_err"]).join(groups.agg(more)).reset_index()
    titles = {name: dataset_columns(name, section)["title"] for name in section["datasets"]}
    means.insert(len(keys), "title", means["dataset"].map(titles))
    ranks = {"dataset": section["datasets"], "method": section["methods"], "order": orders}
    single = raw[[*keys, "seed", "n_train", *shown, "test_err"]]
    return {
        f"{name}.csv": order_by(means, **ranks),
        f"{name}_runs.csv": order_by(single, **ranks),
    }
