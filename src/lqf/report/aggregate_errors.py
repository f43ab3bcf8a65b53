"""Errors of data set × method: Table 1, Table 2, Figures 1 (left) and 2.

An aggregator takes the folder runs/<scale>, its section of the config, and the seeds where the section
has none; it returns the rows of each file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lqf.data import catalogue
from lqf.data.published import Published, default_path, read
from lqf.report import paper
from lqf.report.raw import CHOICES, order_by, read_metrics, select
from lqf.report.statistics import relative_increase, summed_up

Frames = dict[str, pd.DataFrame]


def comparison(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Table 1 and Figure 1 (left): errors, and their increase over `nlft`."""
    selected = selected_runs(runs, section, seeds)
    means = mean_errors(selected, section, "table1")
    relative = relative_to(means, "nlft")
    summary = box_summary(relative, [m for m in section["methods"] if m != "nlft"])
    summary["paper_median"] = summary["method"].map(paper.MEDIANS)
    return {
        "comparison.csv": means,
        "comparison_runs.csv": selected,
        "relative.csv": relative,
        "relative_summary.csv": summary,
    }


def ablation(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 2: errors of LQF without an ingredient, and their increase over LQF.

    `lqf` is read even if not listed.
    """
    methods = [*dict.fromkeys(["lqf", *section["methods"]])]
    section = {**section, "methods": methods}
    selected = selected_runs(runs, section, seeds)
    means = mean_errors(selected, section, None)
    relative = relative_to(means, "lqf")
    columns = ["dataset", "method", "rel_increase_pct", "rel_increase_on_test_pct"]
    means = means.merge(relative[columns], on=["dataset", "method"], how="left")
    return {
        "ablation.csv": means,
        "ablation_runs.csv": selected,
        "ablation_summary.csv": box_summary(relative, methods[1:]),
    }


def fine_grained(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Table 2."""
    selected = selected_runs(runs, section, seeds)
    means = mean_errors(selected, section, "table2")
    return {"fine_grained.csv": means, "fine_grained_runs.csv": selected}


def dataset_columns(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Describes a data set for tables and figures.

    Returns:
        title, group, distance, paper (the data set of the paper that it is or stands for) and
        stand_in (whether it only stands for it, so that numbers must not be compared).
    """
    if (demo := catalogue.DEMO.get(name)) is not None:
        keys = ("title", "group", "distance", "paper")
        return {**{key: getattr(demo, key) for key in keys}, "stand_in": True}
    if (one := _published().get(name)) is not None:
        about = {"title": one.title, "group": one.group, "distance": "real", "paper": one.paper}
        return {**about, "stand_in": False}
    unknown = {"title": name, "group": "", "distance": ""}
    known = section.get("described", {}).get(name, {})
    about = {key: known.get(key, default) for key, default in unknown.items()}
    return {**about, "paper": None, "stand_in": True}


@cache
def _published() -> Mapping[str, Published]:
    """The paper's data sets; none where the package is used without the catalogue's file."""
    path = default_path()
    return read(path).datasets if path.is_file() else {}


def selected_runs(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> pd.DataFrame:
    """One row a run: the grid point selected on validation, and the error of the best on test.

    Rows are in the order of the config; columns ending in `_on_test` belong to the grid point that was
    selected on test.
    """
    raw = read_metrics(runs, "train", section, seeds)
    keys = ["dataset", "method", "seed"]
    chosen = select(raw, keys, "selected_val")
    on_test = select(raw, keys, "selected_test")
    # Nothing of an exact optimum was chosen, on validation or on test, and it had the images of both splits.
    on_test["test_err"] = on_test["test_err"].mask(on_test["val_err"].isna())
    on_test = on_test[[*keys, "test_err", "rate", "weight_decay"]]
    chosen = chosen.merge(on_test, on=keys, suffixes=("", "_on_test"))
    columns = [*keys, "status", "n_points", "n_diverged", "at_edge", "n_train", "n_test", *CHOICES]
    columns += [
        "epsilon",
        "head_scale",
        "residual",
        "row_space",
        "train_loss",
        "train_err",
        "val_err",
        "test_err",
    ]
    columns += ["test_err_on_test", "rate_on_test", "weight_decay_on_test"]
    orders = {"dataset": section["datasets"], "method": section["methods"]}
    return order_by(chosen.reindex(columns=columns), **orders)


def mean_errors(
    selected: pd.DataFrame,
    section: dict[str, Any],
    table: Literal["table1", "table2"] | None,
) -> pd.DataFrame:
    """Means over seeds; diverged runs never enter them.

    Returns:
        One row a data set and method: test error in % with standard deviation and 95 % t
        interval over the n_seeds runs that did not diverge (of n_runs), the grid point chosen most
        often, how far SGD stopped from the optimum, the same when selected on test, and the paper's number.
    """
    measured = ["test_err", "test_err_on_test", "rate", "weight_decay", "residual", "row_space"]
    fine = selected[measured].where(selected["status"] == "ok")
    groups = selected.assign(**fine, edge=selected["at_edge"] != "").groupby(["dataset", "method"])
    means = summed_up("err", groups["test_err"]).join(
        groups.agg(
            n_runs=("seed", "size"),
            status=("status", lambda runs: "ok" if "ok" in set(runs) else "diverged"),
            n_points=("n_points", "sum"),
            n_diverged=("n_diverged", "sum"),
            n_at_edge=("edge", "sum"),
            n_train=("n_train", "first"),
            n_test=("n_test", "first"),
            best_rate=("rate", _most_common),
            best_weight_decay=("weight_decay", _most_common),
            residual=("residual", "mean"),
            row_space=("row_space", "mean"),
            err_mean_on_test=("test_err_on_test", "mean"),
            err_std_on_test=("test_err_on_test", "std"),
        )
    )
    sets = selected["dataset"].unique()
    about = pd.DataFrame([{"dataset": one, **dataset_columns(one, section)} for one in sets])
    rows = about.merge(means.reset_index(), on="dataset")
    printed = [
        paper.error(table, of, method) if table and not stand_in else None
        for of, method, stand_in in zip(
            *(rows[k] for k in ("paper", "method", "stand_in")), strict=True
        )
    ]
    rows["paper_err"] = pd.Series(printed, dtype=float)
    rows["diff"] = rows["err_mean"] - rows["paper_err"]
    orders = {"dataset": section["datasets"], "method": section["methods"]}
    return order_by(rows, **orders)


def relative_to(means: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Relative increase of each method's mean error (`mean_errors`) over a reference method's.

    One row a data set and other method; NaN where the reference has no error or diverged.
    """
    base = means[means["method"] == reference].set_index("dataset")
    rows = means[means["method"] != reference].copy()
    for suffix in ("", "_on_test"):
        rows[f"rel_increase{suffix}_pct"] = relative_increase(
            rows[f"err_mean{suffix}"], base[f"err_mean{suffix}"].reindex(rows["dataset"])
        )
    rows["reference"] = reference
    columns = ["dataset", "title", "group", "distance", "method", "reference", "n_seeds"]
    return rows[[*columns, "rel_increase_pct", "rel_increase_on_test_pct"]].reset_index(drop=True)


def box_summary(relative: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Plain median, quartiles and extremes of `relative_to` over data sets (LQF Figure 1).

    One row a method, in that order, with the number of data sets it is over, and of those left out
    because the increase is undefined there.
    """
    increase = "rel_increase_pct"
    summary = relative.groupby("method").agg(
        median=(increase, "median"),
        q25=(increase, lambda values: values.quantile(0.25)),
        q75=(increase, lambda values: values.quantile(0.75)),
        min=(increase, "min"),
        max=(increase, "max"),
        n_datasets=(increase, "count"),
        n_undefined=(increase, lambda values: values.isna().sum()),
        median_on_test=("rel_increase_on_test_pct", "median"),
    )
    counts = {"n_datasets": 0, "n_undefined": 0}
    summary = summary.reindex(pd.Index(methods, name="method")).fillna(counts)
    return summary.astype(dict.fromkeys(counts, int)).reset_index()


def _most_common(values: pd.Series) -> float:
    modes = values.dropna().mode()
    return float(modes.iloc[0]) if len(modes) else float("nan")
