"""`lqf predict` and `lqf evaluate`: what a model says about further photographs."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss

from lqf.app.model import PhotoModel
from lqf.app.photos import Photos, read_folder, read_images
from lqf.files import write_text


def predict_command(options: argparse.Namespace) -> dict[str, Any] | None:
    """Predict images."""
    model = PhotoModel.load(options.model)
    rows = predictions(model, read_images(options.images, model.size))
    as_json = options.json if options.output is None else options.output.suffix == ".json"
    text = (
        rows.to_json(orient="records", force_ascii=False, indent=1)
        if as_json
        else rows.to_csv(index=False, float_format="%.6g").rstrip("\n")
    )
    if options.output is None:
        print(text)
        return None
    write_text(text + "\n", options.output)
    return {"images": len(rows), "predictions": options.output}


def predictions(model: PhotoModel, photos: Photos) -> pd.DataFrame:
    """One row an image: its class, calibrated probabilities, and how new it is.

    Returns:
        Columns file, prediction, probability, novelty, and ``p(CLASS)`` of every class.
    """
    images = model.images(photos)
    chances = model.lqf.predict_proba(images).cpu().numpy()
    rows = pd.DataFrame(
        {
            "file": photos.files,
            "prediction": [model.classes[i] for i in chances.argmax(1)],
            "probability": chances.max(1),
            "novelty": model.novelty(images),
        }
    )
    every = pd.DataFrame(chances, columns=[f"p({name})" for name in model.classes])
    return pd.concat([rows, every], axis=1)


def evaluate_command(options: argparse.Namespace) -> dict[str, Any]:
    """Hold predictions against labels."""
    model = PhotoModel.load(options.model)
    photos = read_folder(options.folder, model.size, model.classes)
    if "test" in photos.splits:
        photos = photos.split("test")
    return evaluated(model, photos)


def evaluated(model: PhotoModel, photos: Photos) -> dict[str, Any]:
    """Errors in numbers.

    Returns:
        Error in % with its 95 % interval (Wilson), log loss, calibration error in %, and the pairs of
        classes that are confused most.
    """
    chances = model.lqf.predict_proba(model.images(photos)).cpu().numpy()
    guess, number = chances.argmax(1), len(photos)
    # Mean distance of confidence and accuracy over ten bins of equal width.
    sure = chances.max(1)
    bins = np.minimum((10 * sure).astype(int), 9)
    apart = np.abs(np.bincount(bins, (guess == photos.labels) - sure)).sum() / number
    wrong = int((guess != photos.labels).sum())
    low, high = binomtest(wrong, number).proportion_ci(method="wilson")
    classes = range(len(model.classes))
    table = confusion_matrix(photos.labels, guess, labels=classes)
    np.fill_diagonal(table, 0)
    pairs = sorted(zip(*np.nonzero(table), strict=True), key=lambda ij: -table[ij])
    return {
        "images": number,
        "seen_in_training": len(set(photos.hashes) & set(model.photos.hashes)),
        "error_percent": round(100 * wrong / number, 2),
        "error_interval_percent": f"{100 * low:.1f} … {100 * high:.1f} (95 %)",
        "log_loss": round(float(log_loss(photos.labels, chances, labels=classes)), 4),
        "calibration_error_percent": round(100 * float(apart), 2),
        "confused": [
            f"{model.classes[i]} taken for {model.classes[j]}: {table[i, j]}" for i, j in pairs[:10]
        ],
    }
