"""`lqf fit`: a model of a folder of photographs."""

from __future__ import annotations

import argparse
from typing import Any

from lqf.app.model import PhotoModel, fit_photos
from lqf.app.photos import Photos, read_folder

_SMALLEST = 16


def fit_command(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, save, and say how well it went."""
    model, photos, tried = fit_folder(options)
    model.save(options.output)
    return {
        "model": options.output,
        "images": len(model.photos),
        "classes": len(model.classes),
        **described(model),
        "tried_sizes": tried,
        "left_out": photos.left_out,
    }


def fit_folder(options: argparse.Namespace) -> tuple[PhotoModel, Photos, list[str]]:
    """Read the folder and fit at each size that is asked for.

    Returns:
        The model with the least leave-one-out error, every photograph at its size, and the error
        of each size in words.

    Raises:
        ValueError: If there are too few classes, or a size is too small.
    """
    if min(options.size) < _SMALLEST:
        raise ValueError(f"--size is {min(options.size)}: images need {_SMALLEST} pixels or more.")
    tried = []

    def at(size: int) -> tuple[float, PhotoModel, Photos]:
        photos = read_folder(options.folder, size)
        if len(photos.classes) < 2:
            raise ValueError(
                f"{options.folder} has only the class {photos.classes[0]!r}: put the images into two "
                "folders of classes or more."
            )
        asked = {"train": options.train, "device": options.device}
        model = fit_photos(photos.split("train"), options.network, options.weights, **asked)
        error = leave_one_out_error(model)
        tried.append(f"{size} pixels: leave-one-out error {error:.1f} %")
        return error, model, photos

    _, model, photos = min(map(at, options.size), key=lambda one: one[0])
    return model, photos, tried


def described(model: PhotoModel) -> dict[str, Any]:
    """What a person wants to know of a fit."""
    return {
        "network": model.source.name,
        "size": model.size,
        "leave_one_out_error_percent": round(leave_one_out_error(model), 2),
        "leave_one_out_is_exact": model.lqf.exact_,
        "certificate": str(model.lqf.certificate_),
        "mu": float(f"{model.lqf.mu_:.4g}"),
    }


def leave_one_out_error(model: PhotoModel) -> float:
    """Returns the leave-one-out error in %."""
    error = model.lqf.leave_one_out().error
    return float("nan") if error is None else error
