"""Eigenvalues, scores of samples, and what their removal costs: Figures 3 and 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.files import replaced
from lqf.report.aggregate_errors import Frames, dataset_columns
from lqf.report.raw import MissingRun, order_by, read_runs
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
    condition = rows.groupby(["dataset", "title", *groups], as_index=False).agg(
        lambda_max=("eigenvalue", "max"),
        k=("n_samples", "first"),
        ridge=("ridge", "first"),
        effective_dimension=("effective_dimension", "first"),
    )
    last = rows[rows.groupby(groups).cumcount() + 1 == rows["n_samples"]]
    last = last[[*groups, "eigenvalue"]].rename(columns={"eigenvalue": "lambda_k"})
    condition = condition.merge(last, on=groups, how="left")
    condition["spread"] = condition["lambda_max"] / condition["lambda_k"].where(lambda k: k > 0)
    made = ["dataset", "title", *groups, "lambda_max", "k", "lambda_k", "spread", "ridge"]
    columns = ["dataset", "title", *groups, "index", "eigenvalue", "n_samples"]
    return {
        "spectrum.csv": order_by(rows[columns], **orders),
        "condition.csv": order_by(condition[[*made, "effective_dimension"]], **orders),
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
    # Spearman's; NaN where the exact score was not computed, or a score is all the same.
    correlations = [
        {
            "dataset": section["dataset"],
            "seed": seed,
            "score": score,
            "spearman": value,
            "n_samples": len(rows),
        }
        for seed, rows in scores.groupby("seed")
        for score, value in rows[[*SCORES, "fsi_exact"]].rank().corr()["fsi_exact"].items()
        if score in SCORES
    ]
    columns = "removal schedule n_removed n_train test_err"
    removal = _read(runs, "informativeness", section, seeds, "removal.csv", columns)
    removal["acc"] = 100 - removal["test_err"]
    keys = ["removal", "schedule", "n_removed"]
    removal = removal.sort_values([*keys, "seed"], ignore_index=True)
    groups = removal.groupby(["dataset", "title", *keys])
    made = {name: (name, "first") for name in _MADE if name in removal.columns}
    means = groups.agg(n_train=("n_train", "mean")).join(summed_up("acc", groups["acc"]))
    means = means.join(groups.agg(**made)) if made else means
    order = {"removal": ("most", "least", "random"), "schedule": ("one_shot", "iterative")}
    kept = ["dataset", "title", "seed", *keys, "n_train", "test_err", "acc"]
    return {
        "informativeness_scores.csv": scores,
        "informativeness_correlation.csv": pd.DataFrame(correlations),
        "removal.csv": order_by(means.reset_index(), **order),
        "removal_runs.csv": order_by(removal[kept], **order),
    }


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
    with replaced(output) as file:
        sheet.save(file, "PNG", optimize=True)
