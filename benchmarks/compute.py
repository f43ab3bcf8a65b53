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
# The budget of conjugate gradients; see the convergence benchmark.
PASSES = 10


def lqf(
    dataset: str, sizes: Sizes, seed: int, network: str, resolution: int, passes: int
) -> dict[str, Any]:
    """The estimator as it comes: μ by leave-one-out, no rate, no validation images."""
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
        passes = 3 if small else PASSES
        settings = {
            "benchmark": "compute",
            "dataset": dataset,
            "sizes": asdict(sizes),
            "seed": seed,
            "network": network,
            "resolution": real.RESOLUTION,
            "square": realbench.SQUARE,
            "passes": passes,
        }
        make = partial(lqf, dataset, sizes, seed, network, real.RESOLUTION, passes)
        points = row["rows"][:4]  # the paper's grid, before the search goes on around its best
        best = real.chosen(points)
        rows.append(
            {
                "dataset": dataset,
                "seed": seed,
                "network": network,
                "lqf": cell(settings, make),
                "nlft": {
                    "points": len(points),
                    "epochs": best["epochs"],
                    "cpu_s": sum(point["cpu_s"] for point in points),
                    "passes": sum(point["epochs"] or 0 for point in points),
                    "test_err": best["test_err"],
                },
                "nlft_longer": {
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
    ratios = [row["lqf"]["cpu_s"] / row["nlft"]["cpu_s"] for row in rows]
    lines += [
        (
            f"{rows[0]['network']} with ImageNet weights at {real.RESOLUTION} pixels, one seed. NLFT is "
            f"trained at the four points of the paper's 2 × 2 grid, {rows[0]['nlft']['epochs']} epochs "
            "each, and the best on validation is its final error; *longer* adds what the table of "
            "test errors searched beyond that. LQF is the estimator as it comes: it chooses μ by "
            "leave-one-out and has nothing else to choose; its seconds include that, the curvature, "
            f"every pass and the certificate, with at most {PASSES} passes. An LQF pass is 5/3 of an "
            "ordinary step by arithmetic. Seconds are the processor's, of one thread; validation is in "
            "neither."
        ),
        "",
        f"Median of the ratios of seconds: {statistics.median(ratios):.2f}, to reach: {TARGET:g}.",
        "",
        line(
            [
                "data set",
                "train / test",
                "LQF: passes",
                "residual",
                "s",
                "error (%)",
                "NLFT: passes",
                "s",
                "error (%)",
                "ratio of s",
                "longer: s",
                "error (%)",
            ]
        ),
        line(["---"] * 12),
    ]
    for row, share in zip(rows, ratios, strict=True):
        ours, theirs, longer = row["lqf"], row["nlft"], row["nlft_longer"]
        lines.append(
            line(
                [
                    row["dataset"],
                    f"{ours['train']} / {ours['test']}",
                    f"{ours['passes']:g} ({ours['solver']})",
                    f"{ours['residual']:.1e}",
                    f"{ours['cpu_s']:.1f}",
                    f"{ours['test_err']:.1f}",
                    f"{theirs['passes']:g}",
                    f"{theirs['cpu_s']:.1f}",
                    f"{theirs['test_err']:.1f}",
                    f"{share:.2f}",
                    f"{longer['cpu_s']:.1f}",
                    f"{longer['test_err']:.1f}",
                ]
            )
        )
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Error against seconds; a line joins LQF and NLFT on one data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, row in enumerate(result["rows"]):
        places = [(row[key]["cpu_s"], row[key]["test_err"]) for key in ("lqf", "nlft")]
        colour = f"C{number}"
        axes.plot(*zip(*places, strict=True), "-", lw=0.8, color=colour)
        axes.plot(*places[0], "o", color=colour, label=row["dataset"])
        axes.plot(*places[1], "s", color=colour, mfc="none")
    axes.set_xscale("log")
    axes.set_xlabel("processor's seconds to the final model (filled: LQF, open: NLFT, 2 × 2 grid)")
    axes.set_ylabel("test error (%)")
    axes.legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
