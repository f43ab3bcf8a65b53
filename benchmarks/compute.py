"""Total compute to each one's final error: LQF, which searches nothing, and NLFT with its grid."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import real, realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf import LQF
from lqf.fitted import exact, iterative
from lqf.fitted.compressed import Compressed
from lqf.influence import DualRidge
from lqf.linear import RowPlan, SampleRows
from lqf.solve import RidgePath

TITLE = "Total compute: LQF beside NLFT with the paper's grid"
# Seeds.
ROUNDS = 1
TARGET = 0.1
# How μ is had, and the budget in passes, which is the estimator's own.
WAYS: dict[str, tuple[str | float, int]] = {"loo": ("loo", 50), "fixed": (1e-4, 50)}
SETS = ("chest_xray_2", "intel_scenes_6", "dtd_10", "cub_25")
# The data sets that are fitted again with more images, and how many times as many.
GROWN, TIMES = ("chest_xray_2", "intel_scenes_6"), 2
# Where a fit spends its time; what is called inside another part counts there only.
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("factors", iterative, "_curvature"),
    ("rows", RowPlan, "rows"),
    ("rows", Compressed, "rows_of"),
    ("kernel", SampleRows, "product"),
    ("kernel", Compressed, "preconditioner"),
    ("choice of μ", RidgePath, "__init__"),
    ("choice of μ", RidgePath, "choose"),
    ("choice of μ", Compressed, "choose"),
    ("solve", DualRidge, "__init__"),
    ("passes", iterative, "solve_dual_pcg"),
    ("certificate", exact, "_certified"),
)
NAMES = (*dict.fromkeys(name for name, _, _ in PARTS), "rest")


@contextmanager
def profiled() -> Iterator[Counter[str]]:
    """The processor's seconds of each part of what is fitted inside the block.

    Yields:
        Seconds by part, complete when the block ends.
    """
    spent: Counter[str] = Counter()
    running: list[str] = ["rest"]
    last = time.process_time()

    def tick() -> None:
        nonlocal last
        now = time.process_time()
        spent[running[-1]] += now - last
        last = now

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function, updated=())
        def call(*arguments: Any, **options: Any) -> Any:
            tick()
            running.append(name)
            try:
                return function(*arguments, **options)
            finally:
                tick()
                running.pop()

        return call

    patches = [
        mock.patch.object(owner, key, timed(name, getattr(owner, key)))
        for name, owner, key in PARTS
    ]
    for patch in patches:
        patch.start()
    try:
        yield spent
    finally:
        tick()
        for patch in patches:
            patch.stop()


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
    with profiled() as parts:
        model.fit(task.train.images, task.train.labels)
    certificate = model.certificate_
    return {
        "cpu_s": sum(parts.values()),
        "parts": dict(parts),
        "mu": model.mu_,
        "solver": certificate.solver,
        "passes": certificate.passes,
        "residual": certificate.residual,
        "test_err": 100.0 * (1.0 - model.score(task.test.images, task.test.labels)),
        "classes": task.classes,
        "train": len(task.train),
        "test": len(task.test),
    }


def grid(
    dataset: str, sizes: Sizes, seed: int, network: str, resolution: int, epochs: dict[str, int]
) -> list[dict[str, Any]]:
    """NLFT at the points of the paper's grid, and no others."""
    task = realbench.load(dataset, sizes, resolution, seed)
    return real.fits("nlft", task, network, real.grid("nlft", epochs), seed)[0]


def measure(
    rounds: int = ROUNDS, small: bool = False, *, network: str = real.NETWORK
) -> list[dict[str, Any]]:
    """One row a data set, and a number of images; NLFT's grid is that of the benchmark ``real``.

    Raises:
        Absent: if the real images or weights are not at hand.
    """
    sets = [(name, 1) for name in SETS] + [(name, TIMES) for name in GROWN]
    archives = realbench.folder() / "datasets"
    rows = []
    for dataset, times in sets:
        if not (archives / f"{dataset}.tar").is_file():
            continue
        sizes = Sizes(3, 2, 4) if small else real.SETS[dataset]
        if times > 1:
            sizes = Sizes(sizes.train * times, sizes.val, sizes.test)
        given = (dataset, sizes, 0, network, real.RESOLUTION)
        settings = {
            "benchmark": "compute",
            "dataset": dataset,
            "sizes": asdict(sizes),
            "seed": 0,
            "network": network,
            "resolution": real.RESOLUTION,
            "square": realbench.SQUARE,
        }
        ours = {}
        for way, (ridge, passes) in WAYS.items():
            budget = 3 if small else passes
            make = partial(lqf, *given, ridge, budget)
            ours[way] = cell({**settings, "ridge": ridge, "passes": budget}, make)
        epochs = dict.fromkeys(real.EPOCHS, 2) if small else real.EPOCHS
        if times == 1:
            (found,) = real.measure(1, small, network=network, methods=["nlft"], datasets=[dataset])
            searched = found["rows"]
        else:
            make = partial(grid, *given, epochs)
            searched = cell({**settings, "nlft": epochs["nlft"]}, make)
        points = searched[:4]  # the paper's grid, before the search goes on around its best
        best = real.chosen(points)
        nlft = {
            "points": len(points),
            "epochs": best["epochs"],
            "cpu_s": sum(point["cpu_s"] for point in points),
            "passes": sum(point["epochs"] or 0 for point in points),
            "test_err": best["test_err"],
        }
        row = {"dataset": dataset, "times": times, "network": network, "lqf": ours, "nlft": nlft}
        if times == 1:
            row["nlft_longer"] = {
                "passes": sum(point["epochs"] or 0 for point in searched),
                "cpu_s": sum(point["cpu_s"] for point in searched),
                "test_err": real.chosen(searched)["test_err"],
            }
        rows.append(row)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """What was done, and both costs beside both errors."""
    rows = result["rows"]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {machine}.", ""]
    usual = [row for row in rows if row["times"] == 1]
    ratios = {
        way: [row["lqf"][way]["cpu_s"] / row["nlft"]["cpu_s"] for row in usual] for way in WAYS
    }
    lines += [
        (
            f"{rows[0]['network']} with ImageNet weights at {real.RESOLUTION} pixels, one seed. NLFT "
            "is trained at the four points of the paper's 2 × 2 grid, "
            f"{rows[0]['nlft']['epochs']} epochs each, and the best on validation is its final error; "
            "*longer* adds what the table of test errors searched beyond that. LQF is the estimator "
            "to a relative residual of 1e-3: *loo* chooses μ by leave-one-out, *fixed* takes "
            f"μ/N = {WAYS['fixed'][0]:g}; nothing else is there to choose. Its seconds include all of "
            "that and the certificate; they are the processor's, summed over threads, on a machine "
            "that is busy with other work; evaluation is in neither."
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
        grid, first = row["nlft"], row["lqf"]["loo"]
        common = [row["dataset"], f"{first['train']} / {first['test']}"]
        others = {"NLFT, grid": grid}
        if "nlft_longer" in row:
            others["NLFT, longer"] = row["nlft_longer"]
        ours = {f"LQF, {way} ({f['solver']})": f for way, f in row["lqf"].items()}
        for name, found in {**ours, **others}.items():
            cells = [
                name,
                f"{found['passes']:g}",
                f"{found['residual']:.1e}" if "residual" in found else "",
                f"{found['cpu_s']:.1f}",
                f"{found['cpu_s'] / grid['cpu_s']:.2f}",
                f"{found['test_err']:.1f}",
            ]
            lines.append(line([*common, *cells]))
    lines += ["", *profile(rows)]
    return "\n".join(lines) + "\n"


def profile(rows: list[dict[str, Any]]) -> list[str]:
    """Where the seconds of a fit go."""
    lines = [
        (
            "Where the seconds go, beside those of one epoch of NLFT. *Rows*: a forward pass and C "
            "backward passes, in which the rows of J are written down (for the larger problems only "
            "their coordinates of largest curvature). *Kernel*: products of rows, N²/2 of them, and "
            "a Cholesky factorisation. *Passes*: conjugate gradients and their certificate. A "
            "tenth of the grid is 8 epochs, or about 24 forward passes. The rows take at least C + 1 of "
            "those: ten classes take half of the tenth and 25 all of it before anything is multiplied. "
            "The kernel, with (NC)² of its entries, grows with the square of N and of C, while "
            "everything else, and NLFT, grows with N."
        ),
        "",
        line(["data set", "N", "C", "μ", *NAMES, "s", "one epoch"]),
        line(["---"] * (6 + len(NAMES))),
    ]
    for row in rows:
        epoch = row["nlft"]["cpu_s"] / row["nlft"]["passes"]
        for way, found in row["lqf"].items():
            parts = [f"{found['parts'].get(name, 0.0):.2f}" for name in NAMES]
            counts = [found["train"], found["classes"], way]
            lines.append(
                line([row["dataset"], *counts, *parts, f"{found['cpu_s']:.2f}", f"{epoch:.2f}"])
            )
    return lines


def plot(result: dict[str, Any], path: Path) -> None:
    """Error against seconds; a line joins LQF and NLFT on one data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, row in enumerate(result["rows"]):
        colour = f"C{number}"
        kinds = {**row["lqf"], "grid": row["nlft"]}
        kinds |= {"longer": row["nlft_longer"]} if "nlft_longer" in row else {}
        title = f"{row['dataset']}, {row['lqf']['loo']['train']} images"
        marks = {"loo": "o", "fixed": "^", "grid": "s", "longer": "D"}
        for kind, found in kinds.items():
            name = f"LQF, {kind}" if kind in row["lqf"] else f"NLFT, {kind}"
            axes.plot(
                found["cpu_s"],
                found["test_err"],
                marks[kind],
                color=colour,
                mfc=colour if kind in row["lqf"] else "none",
                label=f"{title}: {name}",
            )
    axes.set_xscale("log")
    axes.set_xlabel("processor's seconds to the final model")
    axes.set_ylabel("test error (%)")
    figure.legend(loc="outside right center", fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
