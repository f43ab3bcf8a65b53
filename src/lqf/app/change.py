"""`lqf forget` and `lqf extend`: the optimum without some photographs, or with further ones."""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import torch

from lqf import LQF
from lqf.app.fit import described
from lqf.app.model import PhotoModel, file_hash
from lqf.app.output import tell
from lqf.app.photos import read_folder
from lqf.pages import write_text


def forget_command(options: argparse.Namespace) -> None:
    """Forget photographs, and write what is gone and how well.

    Args:
        options: The command line.
    """
    started = time.perf_counter()
    model = PhotoModel.load(options.model)
    places = find_files(model, options.files)
    new = model.without(places)
    new.save(options.output)
    receipt: dict[str, Any] = {
        "what": "deletion receipt",
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model_before": {"file": str(options.model), "sha256": file_hash(options.model)},
        "model_after": {"file": str(options.output), "sha256": file_hash(options.output)},
        "forgotten": [{"file": model.files[i], "sha256": model.hashes[i]} for i in places],
        "training_images_left": len(new.files),
        "residual": {
            "relative_residual": new.lqf.certificate_.residual,
            "tolerance": new.lqf.certificate_.tolerance,
            "met": new.lqf.certificate_.met,
        },
        "against_fitting_anew": (
            None if options.no_refit else difference_to_refit(model, new, places)
        ),
        "what_stays": (
            "The constants that the fit chose with the forgotten images present (μ, and the metric "
            "where it is estimated from images) are kept; solution, images, thumbnails, names and "
            "hashes of the forgotten files are not in the new model. The old model still holds them: "
            "delete it."
        ),
    }
    path = Path(f"{options.output}.receipt.json")
    write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", path)
    tell(
        options,
        {
            "model": options.output,
            "receipt": path,
            "forgotten": [f"{one['file']} {one['sha256'][:16]}" for one in receipt["forgotten"]],
            "against_fitting_anew": receipt["against_fitting_anew"],
            **described(new),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )


def difference_to_refit(before: PhotoModel, after: PhotoModel, places: list[int]) -> float:
    """Relative difference of the outputs to those of a fit that has not seen the forgotten images.

    Args:
        before: The model that knew them.
        after: The model that forgot them.
        places: Their places among the training files of ``before``.

    Returns:
        ``‖f − f_refit‖ / ‖f_refit‖`` over all training images of ``before``, at the same constants; a
        metric that is estimated from images is estimated anew.
    """
    images = before.source.images(before.pixels)
    if hasattr(before.lqf, "epsilon_"):
        forget: Any = before.lqf.forget
        fresh = forget(places, metric="without")
    else:
        # The network at w0 as it is: head, activations and folding are those of the fit.
        kept = {"network": before.lqf.network_, "head": "keep", "activation": None}
        fresh = LQF(**{**before.lqf.get_params(deep=False), **kept, "ridge": before.lqf.mu_})
        fresh.fit(after.source.images(after.pixels), torch.as_tensor(after.labels))
    ours, anew = (one.decision_function(images) for one in (after.lqf, fresh))
    return float((ours - anew).norm() / anew.norm())


def extend_command(options: argparse.Namespace) -> None:
    """Add photographs.

    Args:
        options: The command line.

    Raises:
        ValueError: If all of them are in the training set already.
    """
    started = time.perf_counter()
    model = PhotoModel.load(options.model)
    photos = read_folder(options.folder, model.size, model.classes)
    known = set(model.hashes)
    fresh = photos.at([i for i, one in enumerate(photos.hashes) if one not in known])
    if not len(fresh):
        raise ValueError(f"every image in {options.folder} is in the training set already.")
    new = model.with_more(fresh)
    new.save(options.output)
    found: dict[str, Any] = {
        "model": options.output,
        "added": len(fresh),
        "known_already": len(photos) - len(fresh),
        "images": len(new.files),
        **described(new),
        "seconds": round(time.perf_counter() - started, 1),
    }
    tell(options, found)


def find_files(model: PhotoModel, names: list[str]) -> list[int]:
    """Places of training files.

    Args:
        model: The model.
        names: Their names in the model.

    Returns:
        Their places, each once.

    Raises:
        ValueError: If a name is not among them.
    """
    places = {file: i for i, file in enumerate(model.files)}
    for name in names:
        if name not in places:
            raise ValueError(
                f"{name!r} is not among the {len(places)} training files of the model, which are named "
                f"as {model.files[0]!r}."
            )
    return sorted({places[name] for name in names})
