"""What exact LQF costs, everything included, beside the grid search of the fine-tuning it replaces.

Processor time of `LQF.fit`: curvature, eigenbases, choice of ε, head's weight and μ, solver, certificate. An epoch of non-linear
fine-tuning (NLFT: SGD, batch norm frozen, batch 32) is measured beside it on the same images, and its 2 × 2 grid is that
often as many epochs. The errors of both are in the experiments of the workflow, not here.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import realbench
from benchmarks.machine import grouped, table, told
from benchmarks.realbench import Sizes
from lqf import LQF
from lqf.curvature import SampleGradients, estimate
from lqf.experiments.nonlinear import Schedule, train_network
from lqf.experiments.task import Task
from lqf.jacobian import Linearized, NetworkJacobian
from lqf.losses import CrossEntropy
from lqf.networks import fold_batch_norm

TITLE = "What exact LQF costs"
ROUNDS = 3
NETWORKS = ("squeezenet1_1", "resnet50v2_stages1-3")
RESOLUTION = 64
#: Data set, training images of a class: 300 images of 2 to 25 classes, then 75 to 600 images of 25.
BY_CLASSES = (
    ("chest_xray_2", 150),
    ("intel_scenes_6", 50),
    ("dtd_10", 30),
    ("caltech101_20", 15),
    ("cub_25", 12),
)
BY_SAMPLES = (("cub_25", 3), ("cub_25", 6), ("cub_25", 12), ("cub_25", 24))
#: Epochs of NLFT at each of four grid points.
EPOCHS, POINTS = 40, 4
TO_REACH = 0.2


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a network, data set, number of images and round."""
    cells = dict.fromkeys([*BY_CLASSES, *BY_SAMPLES])
    rows = []
    for network, (dataset, count) in itertools.product(NETWORKS, cells):
        for seed in range(rounds):
            task = realbench.load(dataset, Sizes(2 if small else count, 1, 1), RESOLUTION, seed)
            rows.append(
                {
                    "network": network,
                    "dataset": dataset,
                    "classes": task.classes,
                    "n_train": len(task.train),
                    "seed": seed,
                    **_costs(network, task, seed),
                }
            )
            print(rows[-1], flush=True)
        if small:
            break
    return rows


def _costs(name: str, task: Task, seed: int) -> dict[str, Any]:
    images, labels = task.train.images[:], task.train.labels
    leaky = realbench.network(name, task.classes, "leaky_relu", 0.1, seed, images)
    plain = realbench.network(name, task.classes, "relu", 0.0, seed, images)
    model = LQF(
        leaky, head="keep", activation=None, centred=True, fold_batch_norm=True, device="cpu", seed=seed
    )  # fmt: skip
    exact = _seconds(lambda: model.fit(images, labels))

    schedule = Schedule(0.01, 1e-4, 32, 1, batch_norm="frozen")
    epoch = _seconds(
        lambda: train_network(deepcopy(plain), images, labels, CrossEntropy(), schedule, seed)
    )

    linearized = Linearized(fold_batch_norm(leaky))
    jacobian = NetworkJacobian(linearized, images, base=images.new_zeros(len(images), task.classes))
    delta = torch.randn(linearized.layout.size) * 1e-3
    one_pass = _seconds(lambda: jacobian.pass_(delta, lambda change, _: change))
    samples = SampleGradients(linearized, images)
    curvature = _seconds(lambda: estimate(samples, images, seed=seed))
    return {
        "exact_s": exact,
        "epoch_s": epoch,
        "pass_s": one_pass,
        "curvature_s": curvature,
        "passes": model.certificate_.passes,
        "residual": model.certificate_.residual,
        "solver": model.certificate_.solver,
    }


def _seconds(work: Callable[[], object]) -> float:
    """Processor time of this process: others on the machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _median(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(value(row) for row in rows)


def _share(row: dict[str, Any]) -> float:
    """Exact LQF over the grid of NLFT."""
    return row["exact_s"] / (POINTS * EPOCHS * row["epoch_s"])


def slope(rows: list[dict[str, Any]], of: str) -> float:
    """Exponent of the cost of exact LQF in ``of``, by least squares on logarithms."""
    x, y = ([math.log(row[key]) for row in rows] for key in (of, "exact_s"))
    return statistics.linear_regression(x, y).slope


def _along(rows: list[dict[str, Any]], cells: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    names = {dataset for dataset, _ in cells}
    if len(names) == 1:
        return [row for row in rows if row["dataset"] in names]
    return [row for row in rows if (row["dataset"], row["n_train"] // row["classes"]) in cells]


def markdown(result: dict[str, Any]) -> str:
    """A line a network and number of classes and images, and the exponents."""
    head = ["network", "data set", "C", "N", "exact LQF, s", "an epoch of NLFT, s"]
    head += [f"exact / {POINTS} × {EPOCHS} epochs", "passes", "curvature / pass", "solver"]
    cells = grouped(result["rows"], "network", "dataset", "classes", "n_train")
    lines = [
        [
            *key,
            f"{_median(rows, lambda row: row['exact_s']):.1f}",
            f"{_median(rows, lambda row: row['epoch_s']):.2f}",
            f"{_median(rows, _share):.2f}",
            f"{_median(rows, lambda row: row['passes']):.1f}",
            f"{_median(rows, lambda row: row['curvature_s'] / row['pass_s']):.1f}",
            rows[0]["solver"],
        ]
        for key, rows in cells.items()
    ]
    text = [f"# {result['title']}", "", told(result), "", *table(head, lines), ""]
    for (network,), own in grouped(result["rows"], "network").items():
        large = [row for row in own if row["n_train"] >= 300]
        said = [f"{network}:"]
        if large:
            said.append(
                f"{_median(large, _share):.2f} of NLFT's grid in the median at N ≥ 300 (to reach: {TO_REACH})."
            )
        for title, of, along in (
            ("C", "classes", _along(own, BY_CLASSES)),
            ("N", "n_train", _along(own, BY_SAMPLES)),
        ):
            if len({row[of] for row in along}) > 1:
                said.append(f"Cost ∝ {title}^{slope(along, of):.2f}.")
        text += [" ".join(said), ""]
    return "\n".join([*text, __doc__.split("\n\n", 1)[1].strip()]) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Cost against classes at 300 images, and against images at 25 classes."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = (
        (BY_CLASSES, "classes", "classes, at 300 images"),
        (BY_SAMPLES, "n_train", "images, of 25 classes"),
    )
    networks = grouped(result["rows"], "network")
    for axis, (cells, of, label) in zip(axes, panels, strict=True):
        for number, ((network,), rows) in enumerate(networks.items()):
            groups = sorted(grouped(_along(rows, cells), of).items())
            places = [place for (place,), _ in groups]
            exact = [_median(own, lambda row: row["exact_s"]) for _, own in groups]
            grid = [_median(own, lambda row: POINTS * EPOCHS * row["epoch_s"]) for _, own in groups]
            name, colour = network.split("_")[0], f"C{number}"
            axis.plot(places, exact, "o-", color=colour, label=f"exact LQF, {name}")
            axis.plot(places, grid, "s--", color=colour, label=f"grid of NLFT, {name}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(label)
    axes[0].set_ylabel("processor time, s")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
    return figure
