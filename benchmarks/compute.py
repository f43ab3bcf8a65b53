"""Total compute to each one's final error: LQF, which searches nothing, and NLFT with its grid."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import real, realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf import LQF

TITLE = "Total compute: LQF beside NLFT with the paper's grid"
# Seeds.
ROUNDS = 1
TARGET = 0.1
# How μ is had, and the budget in passes, which is the estimator's own.
WAYS: dict[str, tuple[str | float, int]] = {"loo": ("loo", 50), "fixed": (1e-4, 50)}


def lqf(
    dataset: str,
    sizes: Sizes,
    seed: int,
    network: str,
    resolution: int,
    ridge: str | float,
    passes: int,
) -> dict[str, Any]:
    """The estimator: no rate, no validation images; μ by leave-one-out, or ``ridge`` · N."""
    task = realbench.load(dataset, sizes, resolution, seed)
    start = realbench.network(
        network, task.classes, "leaky_relu", real.SLOPE, seed, task.train.images
    )
    model = LQF(
        start,
        task.classes,
        head="keep",
        activation=None,
        target_scale=real.TARGET_SCALE,
        ridge=ridge if isinstance(ridge, str) else ridge * len(task.train),
        max_passes=passes,
        seed=seed,
        device="cpu",
    )
    started = time.process_time()
    model.fit(task.train.images, task.train.labels)
    seconds = time.process_time() - started
    certificate = model.certificate_
    return {
        "cpu_s": seconds,
        "mu": model.mu_,
        "solver": certificate.solver,
        "passes": certificate.passes,
        "residual": certificate.residual,
        "test_err": 100.0 * (1.0 - model.score(task.test.images, task.test.labels)),
        "train": len(task.train),
        "test": len(task.test),
    }


def measure(
    rounds: int = ROUNDS, small: bool = False, *, network: str = real.NETWORK
) -> list[dict[str, Any]]:
    """One row a data set and seed; NLFT's grid is that of the benchmark ``real``.

    Raises:
        Absent: if the real images or weights are not at hand.
    """
    searched = [
        row
        for row in real.measure(1 if small else real.ROUNDS, small, methods=["nlft"])
        if row["seed"] == 0
    ]
    rows = []
    for row in searched:
        dataset, seed = row["dataset"], row["seed"]
        sizes = Sizes(3, 2, 4) if small else real.SETS[dataset]
        settings = {
            "benchmark": "compute",
            "dataset": dataset,
            "sizes": asdict(sizes),
            "seed": seed,
            "network": network,
            "resolution": real.RESOLUTION,
            "square": realbench.SQUARE,
        }
        given = (dataset, sizes, seed, network, real.RESOLUTION)
        ours = {}
        for way, (ridge, passes) in WAYS.items():
            budget = 3 if small else passes
            make = partial(lqf, *given, ridge, budget)
            ours[way] = cell({**settings, "ridge": ridge, "passes": budget}, make)
        points = row["rows"][:4]  # the paper's grid, before the search goes on around its best
        best = real.chosen(points)
        rows.append(
            {
                "dataset": dataset,
                "seed": seed,
                "network": network,
                "lqf": ours,
                "nlft": {
                    "points": len(points),
                    "epochs": best["epochs"],
                    "cpu_s": sum(point["cpu_s"] for point in points),
                    "passes": sum(point["epochs"] or 0 for point in points),
                    "test_err": best["test_err"],
                },
                "nlft_longer": {
                    "passes": sum(point["epochs"] or 0 for point in row["rows"]),
                    "cpu_s": sum(point["cpu_s"] for point in row["rows"]),
                    "test_err": row["rows"][row["chosen"]]["test_err"],
                },
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """What was done, and both costs beside both errors."""
    rows = result["rows"]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {machine}.", ""]
    ratios = {
        way: [row["lqf"][way]["cpu_s"] / row["nlft"]["cpu_s"] for row in rows] for way in WAYS
    }
    lines += [
        (
            f"{rows[0]['network']} with ImageNet weights at {real.RESOLUTION} pixels, one seed. NLFT "
            "is trained at the four points of the paper's 2 × 2 grid, "
            f"{rows[0]['nlft']['epochs']} epochs each, and the best on validation is its final error; "
            "*longer* adds what the table of test errors searched beyond that. LQF is the estimator: "
            "*loo* chooses μ by leave-one-out (which costs C/2 passes and a decomposition), *fixed* "
            f"takes μ/N = {WAYS['fixed'][0]:g}; nothing else is there to choose. Its seconds include "
            "all of that, the curvature, every pass and the certificate. An LQF pass is 5/3 of an "
            "ordinary step by arithmetic. Seconds are the processor's, summed over threads; evaluation is "
            "in neither."
        ),
        "",
        "Median of the ratios of seconds to NLFT's grid: "
        + ", ".join(f"{way} {statistics.median(each):.2f}" for way, each in ratios.items())
        + f"; to reach: {TARGET:g}.",
        "",
        line(
            [
                "data set",
                "train / test",
                "method",
                "passes",
                "residual",
                "s",
                "s / NLFT's grid",
                "error (%)",
            ]
        ),
        line(["---"] * 8),
    ]
    for row in rows:
        grid, longer = row["nlft"], row["nlft_longer"]
        common = [row["dataset"], f"{row['lqf']['loo']['train']} / {row['lqf']['loo']['test']}"]

        def told(name: str, passes: float, residual: str, seconds: float, error: float) -> str:
            share = seconds / grid["cpu_s"]  # noqa: B023  (called in the same round)
            return line(
                [
                    *common,  # noqa: B023
                    name,
                    f"{passes:g}",
                    residual,
                    f"{seconds:.1f}",
                    f"{share:.2f}",
                    f"{error:.1f}",
                ]
            )

        for way, ours in row["lqf"].items():
            residual = f"{ours['residual']:.1e}"
            name = f"LQF, {way} ({ours['solver']})"
            lines.append(told(name, ours["passes"], residual, ours["cpu_s"], ours["test_err"]))
        lines.append(told("NLFT, grid", grid["passes"], "", grid["cpu_s"], grid["test_err"]))
        lines.append(
            told("NLFT, longer", longer["passes"], "", longer["cpu_s"], longer["test_err"])
        )
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Error against seconds; a line joins LQF and NLFT on one data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, row in enumerate(result["rows"]):
        colour = f"C{number}"
        kinds = {**row["lqf"], "grid": row["nlft"], "longer": row["nlft_longer"]}
        marks = {"loo": "o", "fixed": "^", "grid": "s", "longer": "D"}
        for kind, found in kinds.items():
            name = f"LQF, {kind}" if kind in row["lqf"] else f"NLFT, {kind}"
            axes.plot(
                found["cpu_s"],
                found["test_err"],
                marks[kind],
                color=colour,
                mfc=colour if kind in row["lqf"] else "none",
                label=f"{row['dataset']}: {name}",
            )
    axes.set_xscale("log")
    axes.set_xlabel("processor's seconds to the final model")
    axes.set_ylabel("test error (%)")
    figure.legend(loc="outside right center", fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
