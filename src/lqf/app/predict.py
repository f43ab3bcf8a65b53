"""`lqf predict` and `lqf evaluate`: what a model says about further photographs."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss

from lqf.app.model import PhotoModel
from lqf.app.output import tell, write_table
from lqf.app.photos import Photos, read_folder, read_images


def predict_command(options: argparse.Namespace) -> None:
    """Predict images."""
    model = PhotoModel.load(options.model)
    photos = read_images(options.images, model.size)
    rows = predictions(model, photos)
    if options.output is not None:
        write_table(rows, options.output)
        tell(options, {"images": len(rows), "predictions": options.output})
    elif options.json:
        print(json.dumps(rows.to_dict(orient="records"), ensure_ascii=False))
    else:
        print(rows.to_csv(index=False, float_format="%.4g"), end="")


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


def evaluate_command(options: argparse.Namespace) -> None:
    """Hold predictions against labels."""
    model = PhotoModel.load(options.model)
    photos = read_folder(options.folder, model.size, model.classes)
    if "test" in photos.splits:
        photos = photos.split("test")
    tell(options, evaluated(model, photos))


def evaluated(model: PhotoModel, photos: Photos) -> dict[str, Any]:
    """Errors in numbers.

    Returns:
        Error in % with its 95 % interval (Wilson), log loss, calibration error in %, and the pairs of
        classes that are confused most.
    """
    chances = model.lqf.predict_proba(model.images(photos)).cpu().numpy()
    guess, number = chances.argmax(1), len(photos)
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
        "calibration_error_percent": round(100 * calibration_error(chances, photos.labels), 2),
        "confused": [
            f"{model.classes[i]} taken for {model.classes[j]}: {table[i, j]}" for i, j in pairs[:10]
        ],
    }


def calibration_error(
    chances: NDArray[np.floating], labels: NDArray[np.int64], bins: int = 10
) -> float:
    """Mean distance of confidence and accuracy over bins of equal width.

    Args:
        chances: Probabilities, M × C.
        labels: y, M.
        bins: How many.
    """
    sure, right = chances.max(1), chances.argmax(1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, right - sure)).sum() / len(labels))
