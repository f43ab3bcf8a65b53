"""Regularisers of NLFT beside exact LQF: Table 3 and Figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lqf.report.aggregate_errors import Frames, dataset_columns
from lqf.report.raw import order_by, read_metrics, select
from lqf.report.statistics import summed_up


def regularized(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates the test error of each method by images a class and percentage of wrong labels."""
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
