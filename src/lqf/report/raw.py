"""Read what the jobs wrote, pick the selected rows, write aggregated CSVs.

Files are read in the order of the config, and rows are sorted by their keys, so that aggregated
CSVs depend on the numbers alone. Wall time stays behind; a file of its own says what was computed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from lqf import provenance
from lqf.files import replaced

METRICS = [
    *("dataset", "method", "seed", "n_train", "n_test", "damping", "rate", "batch", "elr"),
    *("weight_decay", "mu", "epochs", "batch_norm", "train_err", "val_err", "test_err"),
    *("train_loss", "residual", "passes", "status", "selected_val", "selected_test"),
]
"""Columns of metrics.csv that aggregation needs."""

CHOICES = ("batch_norm", "rate", "batch", "weight_decay", "damping", "mu", "epochs", "passes")
"""Columns of a selected row that say which grid point it was."""


class MissingRun(ValueError):
    """A run that the config asks for has left no CSV, or one that cannot be used."""


def read_rows(path: Path, columns: Sequence[str], about: Mapping[str, Any]) -> pd.DataFrame:
    """Reads a raw CSV.

    Args:
        path: The file.
        columns: Columns that it must have.
        about: Which run it is: values of some columns.

    Raises:
        MissingRun: The file is missing, empty, lacks one of the columns, has a row twice or one of
            another run, or an error that is none.
    """
    if not path.is_file():
        raise MissingRun(
            f"{path} does not exist although the config asks for that run; "
            "run the workflow first, or take the run out of `experiments`."
        )
    if path.stat().st_size == 0:
        raise MissingRun(f"{path} is empty; delete it and run its job again.")
    frame = pd.read_csv(path, dtype={"shots": "string", "mode": "string", "message": "string"})
    lacking = [column for column in columns if column not in frame.columns]
    what = f"lacks the columns {lacking}" if lacking else "has no rows" if frame.empty else ""
    if not what:
        # Equal but for the time that it took.
        twice = frame.drop(columns="wall_s", errors="ignore").duplicated()
        what = f"has row {int(twice.argmax()) + 2} twice" if twice.any() else ""
    named = [key for key in about if key in frame.columns]
    said = frame[named].drop_duplicates().values.tolist()
    if not what and named and said != [[about[key] for key in named]]:
        what = f"holds rows of {said}"
    fine = frame[frame["status"] == "ok"] if "status" in frame.columns else frame
    for column in () if what else ("train_err", "val_err", "test_err"):
        if column in frame.columns:
            value = pd.to_numeric(fine[column], errors="coerce")
            # Where a row has no status it need not have an error, and an exact fit validates nothing.
            needed = "status" in frame.columns and column != "val_err"
            wrong = fine[~value.between(0, 100) & (value.notna() | needed)]
            if len(wrong):
                shown, row = wrong[column].iloc[0], wrong.index[0] + 2
                what = f"has {column} {shown} in row {row}, which is no error rate in %"
    if what:
        raise MissingRun(f"{path} {what}; delete it and run its job again.")
    return frame


def read_runs(
    wanted: Mapping[Path, Mapping[str, Any]],
    section: dict[str, Any],
    columns: Sequence[str],
) -> list[tuple[Mapping[str, Any], pd.DataFrame]]:
    """Reads the CSVs of some runs of an experiment, which must be made alike (`lqf.provenance`).

    Args:
        wanted: Path of each, and which run it is.
        section: The experiment; where it has a list `lacking`, runs that cannot be used go there
            with the reason `why`, and the others are read all the same. `machines`, if there, gets what
            each folder of a run was computed with.
        columns: Columns that each must have.

    Returns:
        Which run it is and its rows, for each.

    Raises:
        MissingRun: A run cannot be used and there is no such list, or none of them can.
        WrongRecord: Two runs must not be compared.
    """
    frames, lacking, made = [], [], []
    for path, about in wanted.items():
        try:
            rows = read_rows(path, columns, about)
            made.append((path, about, provenance.read(path)))
            frames.append((about, rows))
        except (MissingRun, provenance.WrongRecord) as problem:
            lacking.append({**about, "why": str(problem)})
    if lacking:
        section.get("lacking", []).extend(lacking)
        if "lacking" not in section or not made:
            several = f"{len(lacking)} of {len(wanted)} runs cannot be used ({_named(lacking)}): "
            more = several if len(lacking) > 1 else ""
            raise MissingRun(f"{more}{lacking[0]['why']}")
    provenance.refuse_mixtures(made)
    for path, _, one in made:
        section.get("machines", {})[path.parent] = (one["processor"], one["torch"])
    return frames


def _named(lacking: Sequence[Mapping[str, Any]]) -> str:
    """Returns which runs these are: data set and method, with all their seeds."""
    seeds: dict[str, list[str]] = {}
    for one in lacking:
        name = " ".join(str(one[key]) for key in ("dataset", "method") if key in one)
        seeds.setdefault(name, []).append(str(one["seed"]))
    return "; ".join(f"{name} seed {', '.join(own)}" for name, own in seeds.items())


def read_metrics(
    runs: Path,
    kind: str,
    section: dict[str, Any],
    seeds: Sequence[int],
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads metrics.csv of every data set, method and seed of an experiment."""
    datasets = section.get("datasets") or [section["dataset"]]
    keys = ("dataset", "method", "seed")
    wanted = {
        runs.joinpath(kind, *map(str, run), "metrics.csv"): dict(zip(keys, run, strict=True))
        for run in product(datasets, section["methods"], section.get("seeds") or seeds)
    }
    frames = [frame for _, frame in read_runs(wanted, section, [*METRICS, *extra])]
    for frame in frames:
        for column in ("selected_val", "selected_test"):
            frame[column] = frame[column].astype(str).str.lower() == "true"
    return pd.concat(frames, ignore_index=True)


def select(frame: pd.DataFrame, keys: Sequence[str], flag: str) -> pd.DataFrame:
    """Keeps the grid point of each run that `selected_val` or `selected_test` marks.

    Returns:
        One row a run, sorted by the keys, with `n_points` and `n_diverged` (grid points tried and
        diverged) and `at_edge` (of which ends of its grid the choice lies at). A run whose points all
        diverged keeps its keys, `status` diverged and no errors. Where the choice was fitted again with
        the validation images, test error and `n_train` are those of that fit.

    Raises:
        MissingRun: A run has several selected rows, or none although some did not diverge.
    """
    errors = ["train_err", "val_err", "test_err", "train_loss", "residual", *CHOICES]
    chosen, points, diverged, edges = [], [], [], []
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
        edges.append(_edges(run, run.loc[chosen[-1]]) if len(best) else "")
    rows = frame.loc[chosen].reset_index(drop=True)
    if flag == "selected_val" and "refit_n_train" in rows:
        again = rows["refit_n_train"].notna()
        rows["n_train"] = rows["refit_n_train"].where(again, rows["n_train"]).astype(int)
        rows["test_err"] = rows["refit_err"].where(again, rows["test_err"])
        rows.loc[again & rows["refit_err"].isna(), "status"] = "diverged"
    rows[errors] = rows[errors].mask(rows["status"] != "ok")
    return rows.assign(n_points=points, n_diverged=diverged, at_edge=edges)


def _edges(run: pd.DataFrame, chosen: pd.Series) -> str:
    """Says "rate highest", "weight_decay lowest", … where nothing beyond the chosen value was tried."""
    # Rates may be in units that depend on the other choices.
    others = ["damping", "weight_decay", "batch_norm"]
    alike = ((run[others] == chosen[others]) | run[others].isna()).all(axis=1)
    found = []
    for column in ("rate", "damping", "weight_decay"):
        tried = run.loc[alike, column] if column == "rate" else run[column]
        if tried.nunique() > 1:
            ends = {"lowest": tried.min(), "highest": tried.max()}
            found += [f"{column} {word}" for word, end in ends.items() if chosen[column] == end]
    return "; ".join(found)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes an aggregated CSV: six significant digits, lines end in a line feed."""
    with replaced(path) as file:
        frame.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")


def order_by(frame: pd.DataFrame, **orders: Iterable[Any]) -> pd.DataFrame:
    """Sorts rows by columns whose values have an order of their own; what it lacks comes last."""

    def rank(column: pd.Series) -> pd.Series:
        ranks = {value: number for number, value in enumerate(orders[str(column.name)])}
        return column.map(lambda value: ranks.get(value, len(ranks)))

    return frame.sort_values(list(orders), key=rank, kind="stable", ignore_index=True)
