"""Eigenvalues, scores of samples, and what their removal costs: Figures 3 and 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.report.aggregate_errors import Frames, dataset_columns
from lqf.report.raw import MissingRun, order_by, read_runs, whole
from lqf.report.statistics import summed_up

SCORES = ("fsi_eq8", "fsi_kfac", "leverage", "loo_error")
"""Scores whose rank correlation with the exact one is reported."""

_MADE = ("scored_by", "retrained_by")
"""Columns of removal.csv that say which score ordered removal, and what found the models left."""

_LARGEST_PICTURE = 96


def _read(
    runs: Path, kind: str, section: dict[str, Any], seeds: Sequence[int], file: str, columns: str
) -> pd.DataFrame:
    dataset = section["dataset"]
    wanted = {
        runs / kind / dataset / str(seed) / file: {"dataset": dataset, "seed": seed}
        for seed in section.get("seeds") or seeds
    }
    title = dataset_columns(dataset, section)["title"]
    frames = [
        frame.assign(**about, title=title)
        for about, frame in read_runs(wanted, section, columns.split())
    ]
    rows = pd.concat(frames, ignore_index=True)
    first = ["dataset", "title", "seed"]
    return rows[[*first, *[column for column in rows.columns if column not in first]]]


def spectrum(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 3: eigenvalues of Gauss–Newton matrices, and what sums them up.

    The paper does not define its κ. Here λ1/λk (`spread`) is taken at k = N, the number of samples,
    in both phases; the effective dimension is at the weight decay that fine-tuning chose.

    The phase is `init` (w0) or `end` (after non-linear fine-tuning), the matrix `squared` (JᵀJ/N) or
    `cross_entropy` (the loss that is trained).
    """
    needed = "phase matrix index eigenvalue n_samples ridge effective_dimension"
    rows = _read(runs, "spectrum", section, seeds, "spectrum.csv", needed)
    groups = ["seed", "matrix", "phase"]
    rows = rows.sort_values([*groups, "index"], ignore_index=True)
    orders: dict[str, Any] = {"matrix": ("squared", "cross_entropy"), "phase": ("init", "end")}
    condition = []
    for key, own in rows.groupby(groups, sort=True):
        k, largest = int(own["n_samples"].iloc[0]), own["eigenvalue"].max()
        smallest = own["eigenvalue"].iloc[k - 1]
        condition.append(
            {
                **{column: own[column].iloc[0] for column in ("dataset", "title")},
                **dict(zip(groups, key, strict=True)),
                "lambda_max": largest,
                "k": k,
                "lambda_k": smallest,
                "spread": largest / smallest if smallest > 0 else np.nan,
                "ridge": own["ridge"].iloc[0],
                "effective_dimension": own["effective_dimension"].iloc[0],
            }
        )
    columns = ["dataset", "title", *groups, "index", "eigenvalue", "n_samples"]
    return {
        "spectrum.csv": order_by(rows[columns], **orders),
        "condition.csv": order_by(pd.DataFrame(condition), **orders),
    }


def informativeness(runs: Path, section: dict[str, Any], seeds: Sequence[int]) -> Frames:
    """Aggregates Figure 6: the score of every sample, and the error after removing some.

    Rank 1 is the most informative sample by the score that ordered removal: the exact one, unless the
    problem was too large for it (column `scored_by`).
    """
    columns = "index row label class fsi_exact fsi_eq8 fsi_kfac leverage loo_error"
    scores = _read(runs, "informativeness", section, seeds, "scores.csv", columns)
    own = scores["fsi_exact"]
    if own.isna().all() and "fsi_estimated" in scores.columns:
        own = scores["fsi_estimated"]
    ranks = own.groupby(scores["seed"]).rank(ascending=False, method="first")
    scores["rank"] = ranks.astype(int)
    scores = scores.sort_values(["seed", "rank"], ignore_index=True)
    correlations = [
        {
            "dataset": section["dataset"],
            "seed": seed,
            "score": score,
            "spearman": _correlation(rows, score),
            "n_samples": len(rows),
        }
        for seed, rows in scores.groupby("seed", sort=True)
        for score in SCORES
    ]
    columns = "removal schedule n_removed n_train test_err"
    removal = _read(runs, "informativeness", section, seeds, "removal.csv", columns)
    removal["acc"] = 100 - removal["test_err"]
    keys = ["removal", "schedule", "n_removed"]
    removal = removal.sort_values([*keys, "seed"], ignore_index=True)
    means = []
    for key, rows in removal.groupby(keys, sort=True):
        means.append(
            {
                "dataset": section["dataset"],
                "title": rows["title"].iloc[0],
                **dict(zip(keys, key, strict=True)),
                "n_train": rows["n_train"].mean(),
                **summed_up("acc", rows["acc"]),
                **{name: rows[name].iloc[0] for name in _MADE if name in rows.columns},
            }
        )
    order = {"removal": ("most", "least", "random"), "schedule": ("one_shot", "iterative")}
    kept = ["dataset", "title", "seed", *keys, "n_train", "test_err", "acc"]
    return {
        "informativeness_scores.csv": scores,
        "informativeness_correlation.csv": pd.DataFrame(correlations),
        "removal.csv": order_by(pd.DataFrame(means), **order),
        "removal_runs.csv": order_by(removal[kept], **order),
    }


def _correlation(rows: pd.DataFrame, score: str) -> float:
    """Spearman's with the exact score; NaN where either was not computed, or is all the same."""
    pair = rows[[score, "fsi_exact"]]
    if pair.isna().any(axis=None) or (pair.nunique() < 2).any():
        return float("nan")
    return float(np.corrcoef(pair.rank(), rowvar=False)[0, 1])


def save_images(scores: pd.DataFrame, shown: int, data: Path, output: Path) -> None:
    """Saves the most (upper row) and least informative samples of the first seed as one picture.

    So that Figure 6 can be redrawn where the data set is not.

    Args:
        scores: informativeness_scores.csv.
        shown: Number of samples in each row.
        data: The folder of the prepared data sets.
        output: The picture, PNG, `shown` samples wide and two high.

    Raises:
        MissingRun: The data set's images are not there.
    """
    from PIL import Image

    scores = scores[scores["seed"] == scores["seed"].iloc[0]].sort_values("rank")
    path = data / str(scores["dataset"].iloc[0]) / "images.npy"
    if not path.is_file():
        raise MissingRun(
            f"aggregate: {path} does not exist, but Figure 6 shows its images; "
            "prepare the data set, or name its folder under the settings key 'data'."
        )
    images = np.load(path, mmap_mode="r")
    chosen = [scores["row"].head(shown), scores["row"].tail(shown)[::-1]]
    size = min(images.shape[1], _LARGEST_PICTURE)
    sheet = Image.new("RGB", (size * shown, size * 2), "white")
    for line, rows in enumerate(chosen):
        for column, row in enumerate(rows):
            picture = Image.fromarray(np.asarray(images[int(row)]))
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.LANCZOS)
            sheet.paste(picture, (column * size, line * size))
    with whole(output) as file:
        sheet.save(file, optimize=True)
