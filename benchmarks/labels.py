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
            f"On {100 * PLANTED:.0f} % of the training images a wrong label is planted, and `lqf audit` with "
            "the head trained, at 128 pixels, ranks all by the leave-one-out probability of their label. "
            "*Found* is the share of the planted ones among the tenth that looks worst; to reach: "
            f"{TARGET}. *Doubted* are labels whose image the model without it takes for another class; right "
            "labels that are doubted compete for the places of the tenth. Of the planted ones that were not "
            "found, the last columns say what the model takes the image for: *as planted* looks right to it, "
            "the others are doubted, but right labels more."
        ),
        "",
    ]
    for network in NETWORKS:
        rows = [row for row in result["rows"] if row["network"] == network]
        lines.append(
            f"- {network}: {_share(rows):.2f} of {_sum(rows, 'planted')} found, "
            f"{_sum(rows, 'doubted_planted') / _sum(rows, 'planted'):.2f} doubted"
        )
    lines += [
        f"- both: {_share(result['rows']):.3f} found",
        "",
        (
            "| data set | network | images | planted | found | right labels doubted (%) | missed: as planted | "
            "its true class | a third class |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (data, network), rows in grouped(result["rows"], "data", "network").items():
        doubted = statistics.mean(row["doubted_right_percent"] for row in rows)
        planted, found = _sum(rows, "planted"), _sum(rows, "in_decile")
        agreed, true = _sum(rows, "missed_taken_for_planted"), _sum(rows, "missed_taken_for_true")
        lines.append(
            f"| {data} | {network} | {rows[0]['images']} | {planted} | {_share(rows):.2f} | "
            f"{doubted:.1f} | {agreed} | {true} | {planted - found - agreed - true} |"
        )
    return "\n".join(lines) + "\n"


def _sum(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def _share(rows: list[dict[str, Any]]) -> float:
    return _sum(rows, "in_decile") / _sum(rows, "planted")


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
    axes.legend(loc="lower left")
    return figure
