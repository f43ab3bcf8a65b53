"""`lqf forget` and `lqf extend`: the optimum without some photographs, or with further ones."""

from __future__ import annotations

import argparse
import datetime
import json
import math
from pathlib import Path
from typing import Any

import torch

from lqf import LQF
from lqf.app.fit import described
from lqf.app.model import PhotoModel
from lqf.app.photos import read_folder
from lqf.files import digest_of, write_text


def forget_command(options: argparse.Namespace) -> dict[str, Any]:
    """Forget photographs, and write what is gone and how well."""
    model = PhotoModel.load(options.model)
    photos, places = model.photos, find_files(model, options.files)
    new = model.without(places)
    new.save(options.output)
    receipt: dict[str, Any] = {
        "what": "deletion receipt",
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model_before": {"file": str(options.model), "sha256": digest_of(options.model)},
        "model_after": {"file": str(options.output), "sha256": digest_of(options.output)},
        "forgotten": [{"file": photos.files[i], "sha256": photos.hashes[i]} for i in places],
        "training_images_left": len(new.photos),
        "residual": {
            "relative_residual": new.lqf.certificate_.residual,
            "tolerance": new.lqf.certificate_.tolerance,
            "met": new.lqf.certificate_.met,
        },
        "against_fitting_anew": (None if options.no_refit else difference_to_refit(model, new)),
        "metric_remembers": (None if options.no_refit else remembered(model, new, places)),
        "what_stays": (
            "The constants that the fit chose with the forgotten images present (μ, and the metric "
            "where it is estimated from images) are kept; solution, images, thumbnails, names and "
            "hashes of the forgotten files are not in the new model. The old model still holds them: "
            "delete it."
        ),
    }
    path = Path(f"{options.output}.receipt.json")
    write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", path)
    return {
        "model": options.output,
        "receipt": path,
        "forgotten": [f"{one['file']} {one['sha256'][:16]}" for one in receipt["forgotten"]],
        "against_fitting_anew": receipt["against_fitting_anew"],
        **described(new),
    }


def difference_to_refit(before: PhotoModel, after: PhotoModel) -> float:
    """Relative difference of the outputs to those of a fit that has not seen the forgotten images.

    Returns:
        ``‖f − f_refit‖ / ‖f_refit‖`` over all training images of ``before``, at the same constants and metric.
    """
    images = before.images(before.photos)
    fresh = after.lqf.refit(after.images(after.photos), torch.as_tensor(after.photos.labels))
    return _apart(after.lqf, fresh, images)


def remembered(before: PhotoModel, after: PhotoModel, places: list[int]) -> float | None:
    """What the metric remembers of the forgotten images, as a relative difference of the outputs.

    Returns:
        ``‖f − f'‖ / ‖f'‖`` over all training images of ``before``, where f' is solved in a metric that is
        estimated without them; None where the metric is not estimated from images.
    """
    if math.isinf(before.lqf.epsilon_):
        return None
    without = before.lqf.forget(places, metric="without")
    return _apart(after.lqf, without, before.images(before.photos))


def _apart(one: LQF, other: LQF, images: torch.Tensor) -> float:
    ours, theirs = one.decision_function(images), other.decision_function(images)
    return float((ours - theirs).norm() / theirs.norm())


def extend_command(options: argparse.Namespace) -> dict[str, Any]:
    """Add photographs.

    Raises:
        ValueError: If all of them are in the training set already.
    """
    model = PhotoModel.load(options.model)
    photos = read_folder(options.folder, model.size, model.classes)
    known = set(model.photos.hashes)
    fresh = photos.at([i for i, one in enumerate(photos.hashes) if one not in known])
    if not len(fresh):
        raise ValueError(f"every image in {options.folder} is in the training set already.")
    new = model.with_more(fresh)
    new.save(options.output)
    return {
        "model": options.output,
        "added": len(fresh),
        "known_already": len(photos) - len(fresh),
        "images": len(new.photos),
        **described(new),
    }


def find_files(model: PhotoModel, names: list[str]) -> list[int]:
    """Places of training files.

    Raises:
        ValueError: If a name is not among them.
    """
    places = {file: i for i, file in enumerate(model.photos.files)}
    for name in names:
        if name not in places:
            raise ValueError(
                f"{name!r} is not among the {len(places)} training files of the model, which are named "
                f"as {model.photos.files[0]!r}."
            )
    return sorted({places[name] for name in names})
