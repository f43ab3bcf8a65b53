"""`lqf explain`: the training images that made a prediction, for and against."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from lqf.app.model import PhotoModel
from lqf.app.photos import Photos, read_images, thumbnail
from lqf.app.predict import predictions
from lqf.pages import write_page


def explain_command(options: argparse.Namespace) -> dict[str, Any]:
    """Explain one image.

    Raises:
        ValueError: If no image is to be shown.
    """
    if options.number < 1:
        raise ValueError(f"--number is {options.number}: show one image or more.")
    model = PhotoModel.load(options.model)
    photos = read_images([options.image], model.size)
    rows = contributions(model, photos)
    said = predictions(model, photos).iloc[0]
    first, second = said["prediction"], rows.attrs["instead"]
    supporting = rows.head(options.number).query("effect > 0")
    opposing = rows.iloc[::-1].head(options.number).query("effect < 0")
    shown = [*supporting["place"], *opposing["place"]]
    write_page(
        "explain.html",
        options.output,
        file=str(options.image),
        image=thumbnail(photos.pixels[0]),
        said=said,
        instead=second,
        sides=[
            (f"For {first}", supporting.to_dict("records")),
            (f"Against it, for {second}", opposing.to_dict("records")),
        ],
        pictures={row: thumbnail(model.photos.pixels[row]) for row in shown},
    )
    return {
        "image": options.image,
        "prediction": first,
        "probability": round(float(said["probability"]), 4),
        "instead": second,
        "novelty": round(float(said["novelty"]), 3),
        "for": [_line(row) for _, row in supporting.iterrows()],
        "against": [_line(row) for _, row in opposing.iterrows()],
        "page": options.output,
    }


def contributions(model: PhotoModel, photos: Photos) -> pd.DataFrame:
    """What each training image adds to the lead of the predicted class over the next.

    The lead that would be left without the image is the lead minus its effect; effects are in units
    of the lead's size.

    Returns:
        Columns place, file, label and effect, the strongest support first.
    """
    images = model.images(photos)
    outputs = model.lqf.decision_function(images)[0]
    first, second = outputs.topk(2).indices.tolist()
    influence = model.lqf.influence(images)[0].cpu()
    effect = (influence[:, first] - influence[:, second]) / (outputs[first] - outputs[second])
    rows = pd.DataFrame(
        {
            "place": range(len(model.photos)),
            "file": model.photos.files,
            "label": [model.classes[i] for i in model.photos.labels],
            "effect": effect.double().numpy(),
        }
    ).sort_values("effect", ascending=False, ignore_index=True)
    rows.attrs["instead"] = model.classes[second]
    return rows


def _line(row: pd.Series) -> str:
    return f"{row['file']} ({row['label']}): {row['effect']:+.1%} of the lead"
