"""`lqf audit`: a CSV and one page about a folder of photographs, and a fit with labels put right."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.app.audit import Audit, audit, relabelled
from lqf.app.fit import fit_folder, leave_one_out_error
from lqf.app.model import PhotoModel
from lqf.app.photos import Photos, read_folder, thumbnail
from lqf.files import digest_of, write_text
from lqf.pages import write_page


def audit_command(options: argparse.Namespace) -> dict[str, Any]:
    """Audit a folder."""
    corrected: dict[str, Any] = {}
    if options.fix is None:
        model, photos, _ = fit_folder(options)
    else:
        model, photos, corrected = put_right(options)
    train = model.photos
    others = photos.split("val", "test") if set(photos.splits) - {"train"} else None
    found = audit(model, train, others)
    table = options.output / "audit.csv"
    write_text(found.rows.to_csv(index=False, float_format="%.6g"), table)
    model.save(options.output / "model.lqf")
    page(found, train, others, photos, options)
    return {
        **found.summary,
        "look_first_at": [
            f"{row['file']}: {row['label']}? ({row['predicted']} {row['p_predicted']:.0%})"
            for _, row in suspicious(found.rows).head(5).iterrows()
        ],
        "confused": [
            f"{row['label']} taken for {row['predicted']}: {row['images']}"
            for _, row in found.confusions.head(5).iterrows()
        ],
        **corrected,
        "left_out": photos.left_out,
        "page": options.output / "audit.html",
        "table": table,
    }


def put_right(options: argparse.Namespace) -> tuple[PhotoModel, Photos, dict[str, Any]]:
    """The audited model with labels put right, its constants and the kernel being those it had.

    Returns:
        The model; every photograph; and what was done, in words.
    """
    corrections = read_corrections(options.fix)
    model = audited(options)
    if model is not None:
        photos = read_folder(options.folder, model.size)
        train, changes = relabelled(photos.split("train"), corrections)
        known = set(zip(model.photos.files, model.photos.hashes, strict=True))
        missing = set(zip(train.files, train.hashes, strict=True)) - known
        if missing or photos.classes != model.classes:
            model = None
    refitted = model is None
    if model is None:
        model, photos, _ = fit_folder(options)
        train, changes = relabelled(photos.split("train"), corrections)
    before = leave_one_out_error(model)
    stay = set(train.files)
    if gone := [i for i, file in enumerate(model.photos.files) if file not in stay]:
        model = model.without(gone)
    if (train.labels != model.photos.labels).any():
        model = model.relabelled(train.labels)
    return (
        model,
        photos,
        {
            "corrected": changes,
            "error_before_corrections_percent": before,
            "fitted_anew": refitted,
        },
    )


def audited(options: argparse.Namespace) -> PhotoModel | None:
    """The model that an audit with these options has left in its folder; None if there is none."""
    path = options.output / "model.lqf"
    if not path.exists():
        return None
    try:
        model = PhotoModel.load(path)
    except ValueError:
        return None
    weights = "" if options.weights is None else digest_of(options.weights)
    asked = (options.network, weights, options.train)
    had = (model.source.name, model.source.weights, model.lqf.trained)
    return model if had == asked and model.size in options.size else None


def read_corrections(path: Path) -> pd.DataFrame:
    """Read a CSV of corrections.

    Returns:
        Its rows; an empty label is an empty text.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"the corrections {path} cannot be read: {error}.") from None


def suspicious(rows: pd.DataFrame) -> pd.DataFrame:
    """Training images whose label looks wrong, the worst first."""
    train = rows[rows["split"] == "train"]
    return train[train["label"] != train["predicted"]].sort_values("rank_label")


def page(
    found: Audit,
    train: Photos,
    others: Photos | None,
    photos: Photos,
    options: argparse.Namespace,
) -> None:
    """Write audit.html."""
    pixels = train.pixels if others is None else np.concatenate([train.pixels, others.pixels])
    counts = Counter(found.rows["label"])
    write_page(
        "audit.html",
        options.output / "audit.html",
        folder=str(options.folder),
        found=found,
        summary=found.summary,
        rows=found.rows.reset_index(names="place").to_dict("records"),
        classes=[(name, counts[name]) for name in photos.classes],
        confusions=found.confusions.head(20).to_dict("records"),
        unreadable=photos.unreadable,
        pictures=[thumbnail(one) for one in pixels],
    )
