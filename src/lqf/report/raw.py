"""Read what the jobs wrote, pick the selected rows, write aggregated CSVs.

Files are read in the order of the config, and rows are sorted by their keys, so that aggregated
CSVs depend on the numbers alone. Wall time and device stay behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

METRICS = [
    "dataset",
    "method",
    "seed",
    "n_train",
    "n_test",
    "damping",
    "rate",
    "batch",
    "elr",
    "weight_decay",
    "mu",
    "epochs",
    "batch_norm",
    "train_err",
    "val_err",
    "test_err",
    "train_loss",
    "residual",
    "passes",
    "status",
    "selected_val",
    "selected_test",
]
"""Columns of metrics.csv that aggregation needs."""

CHOICES = ("batch_norm", "rate", "batch", "weight_decay", "damping", "mu", "epochs", "passes")
"""Columns of a selected row that say which grid point it was."""


class MissingRun(ValueError):
    """A run that the config asks for has left no CSV, or one that lacks columns or rows."""


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a raw CSV.

    Args:
        path: The file.
        columns: Columns that it must have.

    Returns:
        Its rows, all its columns.

    Raises:
        MissingRun: The file is missing, empty, or lacks one of the columns.
    """
    if not path.is_file():
        raise MissingRun(
            f"aggregate: {path} does not exist although the config asks for that run; "
            "run the workflow first, or take the run out of `experiments`."
        )
    if path.stat().st_size == 0:
        raise MissingRun(f"aggregate: {path} is empty; delete it and run its job again.")
    frame = pd.read_csv(path, dtype={"shots": "string", "mode": "string", "message": "string"})
    lacking = [column for column in columns if column not in frame.columns]
    if lacking or frame.empty:
        what = f"lacks the columns {lacking}" if lacking else "has no rows"
        raise MissingRun(f"aggregate: {path} {what}; delete it and run its job again.")
    return frame


def read_metrics(
    runs: Path,
    kind: str,
    section: dict[str, Any],
    seeds: Sequence[int],
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads metrics.csv of every data set, method and seed of an experiment.

    Args:
        runs: The folder runs/<scale>.
        kind: Sub-folder: train, elr, kshot, online.
        section: The experiment's section of the config, with `datasets` (or `dataset`), `methods`.
        seeds: Seeds to use where the section has none.
        extra: Columns needed besides `METRICS`.

    Returns:
        All rows, with an integer column `point` that numbers the rows of a file.

    Raises:
        MissingRun: A file is missing or wrong, or holds another run than its path says.
    """
    datasets = section.get("datasets") or [section["dataset"]]
    frames = []
    for dataset in datasets:
        for method in section["methods"]:
            for seed in section.get("seeds") or seeds:
                path = runs / kind / dataset / method / str(seed) / "metrics.csv"
                frame = read_rows(path, [*METRICS, *extra])
                said = frame[["dataset", "method", "seed"]].drop_duplicates().values.tolist()
                if said != [[dataset, method, seed]]:
                    raise MissingRun(
                        f"aggregate: {path} holds rows of {said}; delete it and run its job again."
                    )
                for column in ("selected_val", "selected_test"):
                    frame[column] = frame[column].astype(str).str.lower() == "true"
                frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def select(frame: pd.DataFrame, keys: Sequence[str], flag: str) -> pd.DataFrame:
    """Keeps the selected grid point of each run.

    Args:
        frame: Raw rows.
        keys: Columns that tell runs apart.
        flag: `selected_val` or `selected_test`.

    Returns:
        One row a run, sorted by the keys, with `n_points` and `n_diverged` (grid points tried and
        diverged). A run whose points all diverged keeps its keys, `status` diverged and no errors.

    Raises:
        MissingRun: A run has several selected rows, or none although some did not diverge.
    """
    errors = ["train_err", "val_err", "test_err", "train_loss", "residual", *CHOICES]
    chosen, points, diverged = [], [], []
    for key, run in frame.groupby(list(keys), sort=True, dropna=False):
        fine = run[run["status"] == "ok"]
        best = fine[fine[flag]] if len(run) > 1 else fine
        if len(best) != min(len(fine), 1):
            raise MissingRun(
                f"aggregate: run {dict(zip(keys, key, strict=True))} has {len(best)} rows with "
                f"{flag}; a run has exactly one unless all its grid points diverged."
            )
        chosen.append((best if len(best) else run).index[0])
        points.append(len(run))
        diverged.append(len(run) - len(fine))
    rows = frame.loc[chosen].reset_index(drop=True)
    rows[errors] = rows[errors].mask(rows["status"] != "ok")
    return rows.assign(n_points=points, n_diverged=diverged)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes an aggregated CSV, at once or not at all.

    Args:
        frame: Its rows.
        path: The file; numbers get six significant digits, lines end in a line feed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def order_by(frame: pd.DataFrame, **orders: Iterable[Any]) -> pd.DataFrame:
    """Sorts rows by columns whose values have an order of their own.

    Args:
        frame: Rows.
        **orders: Column name and the order of its values; what is not named comes last.

    Returns:
        The sorted rows.
    """
    ranks = {}
    for column, values in orders.items():
        rank = {value: number for number, value in enumerate(values)}
        ranks[column] = frame[column].map(lambda value, r=rank: r.get(value, len(r)))
    keys = pd.DataFrame(ranks, index=frame.index)
    order = keys.sort_values(list(ranks), kind="stable").index
    return frame.loc[order].reset_index(drop=True)
