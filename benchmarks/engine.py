"""Exact LQF on photographs: error, passes and processor time beside its opponents, on the same images.

Nothing of exact LQF is searched or validated.  Opponents have validation images of their own, and their
best grid point on these; the ridge head chooses λ by leave-one-out, as exact LQF does.
"""

from __future__ import annotations

import itertools
import statistics
import time
from copy import deepcopy
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import realbench
from benchmarks.machine import table
from benchmarks.realbench import Sizes
from lqf import LQF
from lqf.experiments.nonlinear import Schedule, outputs_of, train_network
from lqf.experiments.task import Split, Task
from lqf.losses import CrossEntropy, error_rate

TITLE = "Exact LQF on photographs"
# Seeds.
ROUNDS = 1
#: Data set, training images of a class.
SETS = (
    ("intel_scenes_6", 20),
    ("dtd_10", 20),
    ("chest_xray_2", 60),
    ("oxford_pets_10perclass", 5),
    ("caltech101_20", 5),
    ("omniglot_32", 5),
    ("cub_25", 5),
    ("cub_25", 20),
)
NETWORKS = ("squeezenet1_1", "resnet50v2_stages1-3")
RESOLUTION = 64
#: NLFT's grid, on validation images, half as many as training images.
RATES, DECAYS, EPOCHS = (0.03, 0.01), (1e-4, 1e-5), 40


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a network, data set, seed and method."""
    rows = []
    for network, (dataset, count) in itertools.product(NETWORKS, SETS):
        for seed in range(rounds):
            sizes = Sizes(2 if small else count, max(1, count // 2), 5 if small else None)
            task = realbench.load(dataset, sizes, RESOLUTION, seed)
            for found in _methods(network, task, seed, 1 if small else EPOCHS):
                rows.append(
                    {
                        "network": network,
                        "dataset": dataset,
                        "per_class": sizes.train,
                        "n_train": len(task.train),
                        "classes": task.classes,
                        "seed": seed,
                        **found,
                    }
                )
                print(rows[-1], flush=True)
        if small:
            break
    return rows


def _methods(network: str, task: Task, seed: int, epochs: int) -> list[dict[str, Any]]:
    images = task.train.images[:]
    leaky = realbench.network(network, task.classes, "leaky_relu", 0.1, seed, images)
    plain = realbench.network(network, task.classes, "relu", 0.0, seed, images)
    common = {"head": "keep", "activation": None, "centred": True, "device": "cpu", "seed": seed}
    fits = {
        "lqf_exact": LQF(leaky, fold_batch_norm=True, **common),
        "lqf_euclidean": LQF(leaky, metric="euclidean", **common),
        "ridge_head": LQF(plain, trained="head", **common),
    }
    rows = []
    for name, model in fits.items():
        started = time.process_time()
        model.fit(images, task.train.labels)
        seconds = time.process_time() - started
        certificate, choice = model.certificate_, model.choice_
        rows.append(
            {
                "method": name,
                "test_err": 100 * (1 - model.score(task.test.images[:], task.test.labels)),
                "cpu_s": seconds,
                "passes": certificate.passes,
                "residual": certificate.residual,
                "solver": certificate.solver,
                "epsilon": str(model.epsilon_),
                "head_scale": model.head_scale_,
                "mu_relative": None if choice is None else model.mu_ / choice.unit,
            }
        )
    return [*rows, _nlft(plain, task, seed, epochs)]


def _nlft(network: torch.nn.Module, task: Task, seed: int, epochs: int) -> dict[str, Any]:
    """The grid, and the test error of its point with the smallest validation error."""
    started = time.process_time()
    best: tuple[float, float] | None = None
    for rate, decay in itertools.product(RATES, DECAYS):
        trained = deepcopy(network)
        schedule = Schedule(rate, decay, 32, epochs, batch_norm="frozen")
        images = task.train.images[:]
        train_network(trained, images, task.train.labels, CrossEntropy(), schedule, seed)
        validation, test = (_error(trained, split) for split in (task.val, task.test))
        if best is None or validation < best[0]:
            best = validation, test
    return {
        "method": "nlft",
        "test_err": None if best is None else best[1],
        "cpu_s": time.process_time() - started,
        "passes": len(RATES) * len(DECAYS) * epochs,
    }


def _error(network: torch.nn.Module, split: Split) -> float:
    return error_rate(outputs_of(network, split.images), split.labels)


def _cells(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]]:
    found: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        key = (row["network"], row["dataset"], row["n_train"], row["classes"])
        found.setdefault(key, {}).setdefault(row["method"], []).append(row)
    return found


def markdown(result: dict[str, Any]) -> str:
    """A line a network and data set: mean test errors, and what exact LQF took."""
    names = ("lqf_exact", "lqf_euclidean", "ridge_head", "nlft")
    head = ["network", "data set", "N", "C", *(f"{n}: error %" for n in names)]
    head += ["passes", "CPU time / NLFT's grid", "solver"]
    rows = []
    for key, methods in _cells(result["rows"]).items():
        own = methods["lqf_exact"]
        share = [a["cpu_s"] / b["cpu_s"] for a, b in zip(own, methods["nlft"], strict=True)]
        errors = [f"{statistics.mean(r['test_err'] for r in methods[n]):.1f}" for n in names]
        passes = f"{statistics.mean(r['passes'] for r in own):.1f}"
        rows.append([*key, *errors, passes, f"{statistics.median(share):.2f}", own[0]["solver"]])
    about = __doc__.split("\n\n", 1)[1].strip()
    return "\n".join([f"# {result['title']}", "", *table(head, rows), "", about]) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Test errors, one group a network and data set."""
    cells = _cells(result["rows"])
    figure = Figure(figsize=(8, 0.5 * len(cells) + 1.5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(("lqf_exact", "lqf_euclidean", "ridge_head", "nlft")):
        values = [
            statistics.mean(r["test_err"] for r in methods[name]) for methods in cells.values()
        ]
        places = [place + 0.2 * number for place in range(len(cells))]
        axes.barh(places, values, 0.2, label=name)
    labels = [f"{network.split('_')[0]}, {data}, N = {n}" for network, data, n, _ in cells]
    axes.set_yticks([place + 0.3 for place in range(len(cells))], labels)
    axes.invert_yaxis()
    axes.set_xlabel("test error, %")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure
