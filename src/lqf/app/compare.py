"""`lqf compare`: are two runs of the workflow the same within their intervals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind_from_stats

from lqf.report import seals
from lqf.report.artefacts import CLAIMS_FILE

# Tables of errors by data set and method: mean and standard deviation over seeds.
_ERRORS = ("comparison.csv", "ablation.csv", "fine_grained.csv")
_KEY = ["file", "dataset", "method"]
_LEVEL = 0.05
# Printed to six digits, two equal means may differ by this.
_ROUNDING = 1e-4


def compare_command(options: argparse.Namespace) -> dict[str, Any]:
    """Compare two folders of results."""
    return compared(options.first, options.second)


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Hold errors and verdicts of two runs against each other.

    Errors differ where Welch's t test over seeds says so at 5 % after Holm's correction for the number
    of comparisons; without two seeds a difference cannot be judged, and only equality is.

    Returns:
        Numbers compared, those that differ in words, and the answer.

    Raises:
        ValueError: If a folder holds no results, damaged ones, or nothing that both hold.
    """
    for folder in (first, second):
        seals.check(folder, [*_ERRORS, CLAIMS_FILE])
    ours, theirs = (_errors(folder) for folder in (first, second))
    pairs = ours.merge(theirs, on=_KEY, suffixes=("_1", "_2"))
    if pairs.empty:
        raise ValueError(f"{first} and {second} share no data set and method: nothing to compare.")
    differing = [
        f"{row['dataset']} {row['method']} ({row['file']}): {row['err_mean_1']:.2f} against "
        f"{row['err_mean_2']:.2f} %, p = {row['p']:.2g}"
        for _, row in _significant(pairs).iterrows()
    ]
    verdicts = _verdicts(first).merge(_verdicts(second), on="id", suffixes=("_1", "_2"))
    changed = verdicts[verdicts["verdict_1"] != verdicts["verdict_2"]]
    apart = [
        f"{row['id']}: {row['verdict_1']} against {row['verdict_2']}"
        + ("" if _overlap(row) else ", and the intervals do not overlap")
        for _, row in changed.iterrows()
    ]
    identical = bool((pairs["err_mean_1"] - pairs["err_mean_2"]).abs().max() < _ROUNDING)
    clash = any(not _overlap(row) for _, row in verdicts.iterrows())
    return {
        "errors_compared": len(pairs),
        "errors_identical": identical,
        "errors_that_differ": differing,
        "claims_compared": len(verdicts),
        "verdicts_that_differ": apart,
        "only_in_first": _missing(ours, theirs),
        "only_in_second": _missing(theirs, ours),
        "same_within_intervals": not differing and not clash,
    }


def _errors(folder: Path) -> pd.DataFrame:
    parts = [
        pd.read_csv(folder / name).assign(file=name) for name in _ERRORS if (folder / name).exists()
    ]
    if not parts:
        raise ValueError(
            f"{folder} holds no results: give a folder results/SCALE with {_ERRORS[0]}."
        )
    rows = pd.concat(parts, ignore_index=True)
    return rows[[*_KEY, "err_mean", "err_std", "n_seeds"]]


def _verdicts(folder: Path) -> pd.DataFrame:
    path = folder / CLAIMS_FILE
    columns = ["id", "value", "low", "high", "verdict"]
    return pd.read_csv(path)[columns] if path.exists() else pd.DataFrame(columns=columns)


def _significant(pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows whose errors differ, by Holm's step-down rule."""
    statistics = [
        [pairs[f"{name}_{i}"].to_numpy(float) for name in ("err_mean", "err_std", "n_seeds")]
        for i in (1, 2)
    ]
    # Seeds that agree to the last digit, or a single seed, leave nothing to test with.
    with np.errstate(divide="ignore", invalid="ignore"):
        test = ttest_ind_from_stats(*statistics[0], *statistics[1], equal_var=False)
    rows = pairs.assign(p=test.pvalue).dropna(subset="p").sort_values("p", ignore_index=True)
    far = (rows["err_mean_1"] - rows["err_mean_2"]).abs() > _ROUNDING
    rejected = far & (rows["p"] <= _LEVEL / (len(rows) - rows.index))
    return rows[rejected.cummin()]


def _overlap(row: pd.Series) -> bool:
    ends = row[["low_1", "high_1", "low_2", "high_2"]]
    if ends.isna().any():
        return True
    return bool(row["low_1"] <= row["high_2"] and row["low_2"] <= row["high_1"])


def _missing(here: pd.DataFrame, there: pd.DataFrame) -> list[str]:
    names = [set(map(tuple, rows[_KEY].to_numpy())) for rows in (here, there)]
    return sorted(f"{dataset} {method} ({file})" for file, dataset, method in names[0] - names[1])
