"""Planted label errors: how many of them `lqf audit` shows among the tenth that looks worst."""

from __future__ import annotations

import statistics
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import realbench
from benchmarks.machine import grouped, told
from lqf.app.audit import audit
from lqf.app.model import fit_photos
from lqf.app.photos import Photos, read_folder

TITLE = "Planted label errors among photographs"
# Seeds: of the images and of the planted errors.
ROUNDS = 3
TARGET, PLANTED = 0.8, 0.05
SIZE = 128
#: Data set -> training images of each class.
SETS = {
    "caltech101_20": 8,
    "intel_scenes_6": 30,
    "cub_25": 6,
    "dtd_10": 16,
    "oxford_pets_10perclass": 5,
    "chest_xray_2": 80,
    "omniglot_32": 6,
}
#: Network -> its file of weights.
NETWORKS = {
    "mobilenet_v2": "imagenet_mobilenetv2_tv_bnfolded_backbone",
    "squeezenet1_1": "imagenet_squeezenet1_1",
}


def measure(rounds: int, small: bool) -> list[dict[str, Any]]:
    """Plant errors, audit, and count.

    Args:
        rounds: seeds.
        small: one data set, a few small images.
    """
    folder = realbench.folder()
    rows = []
    for name, per_class in list(SETS.items())[: 1 if small else None]:
        with tempfile.TemporaryDirectory() as place:
            with tarfile.open(folder / "datasets" / f"{name}.tar") as archive:
                archive.extractall(place, filter="data")
            photos = read_folder(Path(place, name), 32 if small else SIZE).split("train")
        for network, file in list(NETWORKS.items())[1 if small else 0 :]:
            weights = folder / "weights" / f"{file}.safetensors"
            for seed in range(rounds):
                chosen = _draw(photos, 4 if small else per_class, seed)
                rows.append({"data": name, "network": network, "seed": seed})
                rows[-1] |= _audited(chosen, network, weights, seed)
    return rows


def _draw(photos: Photos, per_class: int, seed: int) -> Photos:
    rng = np.random.default_rng(seed)
    mine = [
        rng.permutation(np.nonzero(photos.labels == label)[0])[:per_class]
        for label in range(len(photos.classes))
    ]
    return photos.at(np.sort(np.concatenate(mine)))


def _audited(photos: Photos, network: str, weights: Path, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 1])
    number, classes = len(photos), len(photos.classes)
    wrong = rng.choice(number, max(1, round(PLANTED * number)), replace=False)
    labels = photos.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    planted = Photos(
        photos.files, photos.pixels, labels, photos.splits, photos.hashes, photos.classes
    )
    model = fit_photos(planted, network, weights, train="head", device="cpu")
    found = audit(model, planted, None)
    names = np.array(photos.classes)
    rows = found.rows.assign(true=names[photos.labels], planted=labels != photos.labels)
    # A right label that leave-one-out takes for wrong competes for the places of the decile.
    right, planted = rows[~rows["planted"]], rows[rows["planted"]]
    missed = planted[planted["rank_label"] > number / 10]
    return {
        "images": number,
        "classes": classes,
        "planted": len(planted),
        "in_decile": len(planted) - len(missed),
        "missed_taken_for_planted": int((missed["predicted"] == missed["label"]).sum()),
        "missed_taken_for_true": int((missed["predicted"] == missed["true"]).sum()),
        "doubted_planted": int((planted["predicted"] != planted["label"]).sum()),
        "doubted_right_percent": 100 * float((right["predicted"] != right["label"]).mean()),
    }


def markdown(result: dict[str, Any]) -> str:
    """The report: shares by data set and network."""
    lines = [
        f"# {result['title']}",
        "",
        told(result),
        "",
        (
            f"A wrong label is planted on {100 * PLANTED:.0f} % of the training images, and `lqf audit` with "
            "the head trained ranks all by the leave-one-out probability of their label. *Found* is the "
            f"share of the planted ones among the tenth that looks worst; to reach: {TARGET}. *Right labels "
            "doubted* are right labels that the model without their image takes for another class: where "
            "they are more than the tenth has room for, they keep planted ones out."
        ),
        "",
        f"Found of all: {_share(result['rows']):.2f}.",
        "",
        "| data set | network | images | planted | found | right labels doubted (%) | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (data, network), rows in grouped(result["rows"], "data", "network").items():
        doubted = statistics.mean(row["doubted_right_percent"] for row in rows)
        seconds = statistics.median(row["seconds"] for row in rows)
        planted = sum(row["planted"] for row in rows)
        lines.append(
            f"| {data} | {network} | {rows[0]['images']} | {planted} | {_share(rows):.2f} | "
            f"{doubted:.1f} | {seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _share(rows: list[dict[str, Any]]) -> float:
    return sum(row["in_decile"] for row in rows) / sum(row["planted"] for row in rows)


def plot(result: dict[str, Any]) -> Figure:
    """Share found against how many right labels are doubted."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for network in NETWORKS:
        groups = [
            rows
            for (_, one), rows in grouped(result["rows"], "data", "network").items()
            if one == network
        ]
        doubted = [statistics.mean(row["doubted_right_percent"] for row in rows) for rows in groups]
        axes.plot(doubted, [_share(rows) for rows in groups], "o", label=network)
    axes.axhline(TARGET, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="right labels doubted (%)", ylabel="planted errors found", ylim=(0, 1.05))
    axes.legend()
    return figure
