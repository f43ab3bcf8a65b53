"""NLFT, FC, GaF, LQF-FC, LQF and exact LQF on small real data sets with real ImageNet weights."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.experiments.rows import fit_grid
from lqf.experiments.task import Task
from lqf.method import TITLES, get
from lqf.networks import has_batch_norm

log = logging.getLogger(__name__)

TITLE = "Real images, real weights: test errors"
# Seeds: each draws training and validation images, the head, and the order of the samples.
ROUNDS = 3
METHODS = ("nlft", "lqf", "lqf_exact", "lqf_fc", "gaf", "fc")
NETWORK, RESOLUTION, SLOPE, TARGET_SCALE = "squeezenet1_1", 64, 0.1, 15.0

# As many images as two busy cores can afford.
SETS = {
    "cub_25": Sizes(5, 5, 10),
    "intel_scenes_6": Sizes(18, 18, 40),
    "dtd_10": Sizes(12, 12, 25),
    "chest_xray_2": Sizes(50, 50),
    "caltech101_20": Sizes(5, 5, 12),
    "omniglot_32": Sizes(4, 4),
    "oxford_pets_10perclass": Sizes(4, 3),
}
# Grid points of seed 0 that the other seeds try; only NLFT's grid has more.
KEPT = 3
EPOCHS = {"nlft": 20, "gaf": 15, "lqf": 15, "head": 60}

_SGD = Point(1e-4, batch=32, momentum=0.9, milestones=(0.5, 0.8), decay=0.1)
_KFAC = replace(_SGD, relative=True, damping=1e-3)


def grid(method: str, epochs: dict[str, int]) -> list[Point]:
    """What a method searches first; `refined` says what follows."""
    if method == "nlft":
        # The paper's two rates and two weight decays (LQF §4).
        return [
            replace(_SGD, rate=rate, weight_decay=decay, epochs=epochs["nlft"], batch_norm="train")
            for rate in (0.01, 0.001)
            for decay in (1e-4, 1e-5)
        ]
    if method == "gaf":
        return [
            replace(_SGD, rate=rate, epochs=epochs["gaf"])
            for rate in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
        ]
    if method == "fc":
        rates = (0.01, 0.1, 1.0, 10.0, 100.0)
        return [replace(_SGD, rate=rate, epochs=epochs["head"]) for rate in rates]
    if method in ("lqf", "lqf_fc"):
        many = epochs["lqf" if method == "lqf" else "head"]
        return [replace(_KFAC, rate=rate, epochs=many) for rate in (0.3, 1.0)]
    return [Point(decay, tolerance=1e-3, max_passes=30) for decay in (1e-4, 1e-3, 1e-2, 1e-1)]


def refined(method: str, best: Point, batch_norm: bool) -> list[Point]:
    """Further points for the baseline, to make it as strong as we can."""
    if method != "nlft":
        return []
    # The paper's rates are far apart: one between them, and time enough for it.
    more = [replace(best, rate=0.003, epochs=3 * (best.epochs or 1))]
    if batch_norm:
        more += [replace(best, batch_norm="frozen")]
    return more


class Timed:
    """A problem that keeps the processor's seconds of each of its fits.

    Args:
        problem: the problem.
    """

    def __init__(self, problem: NonlinearProblem | LinearProblem) -> None:
        self._problem = problem
        self.cpu_s = 0.0

    def rate(self, point: Point) -> float | None:
        """As the problem's."""
        return self._problem.rate(point)

    def fit(self, point: Point, seed: int, **options: Any) -> Fit:
        """As the problem's."""
        started = time.process_time()
        try:
            return self._problem.fit(point, seed, **options)
        finally:
            self.cpu_s = time.process_time() - started


def chosen(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The row with the least validation error; ties go to the smaller validation loss."""
    finite = [row for row in rows if row["status"] == "ok"]
    return min(finite, key=lambda row: (row["val_err"], row["val_loss"]))


def fits(
    method: str, task: Task, network: str, points: list[Point], seed: int
) -> tuple[list[dict[str, Any]], float]:
    """One row a grid point, as the workflow has it, with the point and its seconds.

    Returns:
        The rows, and the processor's seconds of preparing the problem.
    """
    made = get(method)
    started = time.process_time()
    start = realbench.network(
        network, task.classes, made.activation, SLOPE, seed, task.train.images
    )
    problem = make_problem(made, start, task, TARGET_SCALE, fold=True)
    settings = {"backbone": {"network": network, "slope": SLOPE}, "target_scale": TARGET_SCALE}
    if isinstance(problem, LinearProblem) and points[0].damping is not None:
        problem.preconditioner(points[0].damping)
    prepared = time.process_time() - started
    timed, rows = Timed(problem), []
    for point in points:
        title = f"{task.name} {method} seed {seed}"
        (row,), found = fit_grid(method, made, timed, task, [point], settings, seed, title)
        row |= {"point": asdict(point), "cpu_s": timed.cpu_s}
        if found:
            outputs = found[0].outputs(task.val)
            loss = problem_loss(method, task).value(outputs, task.val.labels)
            row["val_loss"] = float(loss)
        rows.append(row)
    return rows, prepared


def problem_loss(method: str, task: Task) -> Any:
    """The loss a method trains."""
    from lqf.losses import make_loss

    return make_loss(get(method).loss, TARGET_SCALE, task.classes)


def best_points(rows: list[dict[str, Any]], count: int) -> list[Point]:
    """The grid points with the least validation errors, best first."""
    left, points = [row for row in rows if row["status"] == "ok"], []
    while left and len(points) < count:
        row = chosen(left)
        left.remove(row)
        points.append(point_of(row))
    return points


def brief(point: Point) -> list[Any]:
    """What the grids here vary."""
    return [point.rate, point.weight_decay, point.epochs, point.batch_norm, point.damping]


def point_of(row: dict[str, Any]) -> Point:
    """The grid point of a row."""
    return Point(**{**row["point"], "milestones": tuple(row["point"]["milestones"])})


def one(
    method: str,
    dataset: str,
    sizes: Sizes,
    seed: int,
    network: str,
    resolution: int,
    epochs: dict[str, int],
    known: list[Point] | None,
) -> dict[str, Any]:
    """One method on one draw of a data set: its grid, or the points that are known to be good.

    Returns:
        The rows, the number of the chosen one, and the processor's seconds of preparation.
    """
    task = realbench.load(dataset, sizes, resolution, seed)
    points = grid(method, epochs) if known is None else known
    rows, prepared = fits(method, task, network, points, seed)
    if known is None and (
        more := refined(method, point_of(chosen(rows)), has_batch_norm(_plain(network)))
    ):
        rows += fits(method, task, network, more, seed)[0]
    return {"rows": rows, "chosen": rows.index(chosen(rows)), "prepared_cpu_s": prepared}


def _plain(network: str) -> torch.nn.Module:
    return realbench.NETWORKS[network]()


def measure(
    rounds: int = ROUNDS,
    small: bool = False,
    *,
    network: str = NETWORK,
    resolution: int | None = None,
    methods: Iterable[str] = METHODS,
    datasets: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Every method on every data set; finished cells are kept and not computed again.

    Args:
        rounds: seeds.
        small: a try-out in seconds.
        network: pre-trained network.
        resolution: height and width of the images.
        methods: what to fit.
        datasets: some of `SETS`; None for all that are at hand.

    Returns:
        One row a data set, method and seed.

    Raises:
        Absent: if the real images or weights are not at hand.
    """
    resolution = resolution or RESOLUTION
    archives = realbench.folder() / "datasets"
    wanted = SETS if datasets is None else datasets
    present = [name for name in wanted if (archives / f"{name}.tar").is_file()]
    sets = {name: Sizes(3, 2, 4) if small else SETS[name] for name in present}
    epochs = dict.fromkeys(EPOCHS, 2) if small else EPOCHS
    results = []
    for dataset, sizes in sets.items():
        for method in methods:
            known: list[Point] | None = None
            for seed in range(rounds):
                settings = {
                    "benchmark": "real",
                    "method": method,
                    "dataset": dataset,
                    "sizes": asdict(sizes),
                    "seed": seed,
                    "network": network,
                    "resolution": resolution,
                    "square": realbench.SQUARE,
                    "grid": list(map(brief, grid(method, epochs))),
                    "known": known and list(map(brief, known)),
                }
                make = partial(
                    one, method, dataset, sizes, seed, network, resolution, epochs, known
                )
                found = cell(settings, make)
                best = found["rows"][found["chosen"]]
                log.info("%s %s seed %d: test error %.1f", dataset, method, seed, best["test_err"])
                results.append({"dataset": dataset, "method": method, "seed": seed, **found})
                known = known or best_points(found["rows"], KEPT)
    return results


def summary(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Errors of the chosen points by data set and method, in the order of the seeds."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        best = row["rows"][row["chosen"]]
        entry = found.setdefault((row["dataset"], row["method"]), {"errors": [], "best": []})
        entry["errors"].append(best["test_err"])
        entry["best"].append(best)
    return found


def told(errors: list[float]) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    mean = f"{statistics.mean(errors):.1f}"
    return f"{mean} ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else mean


def markdown(result: dict[str, Any]) -> str:
    """What was done, the table of errors, and what was chosen."""
    rows = result["rows"]
    found = summary(rows)
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    first = rows[0]["rows"][0]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [
        f"# {result['title']}",
        "",
        f"Machine: {machine}.",
        "",
        (
            f"Network: {first['network']} with its ImageNet weights at {RESOLUTION} pixels, batch "
            "norm (where there is any) folded in everything linearised, a new random head, pooled "
            f"features scaled to a mean squared norm of {realbench.SQUARE:g}. LQF, LQF-FC and exact "
            f"LQF swap every ReLU for a leaky ReLU of slope {SLOPE}; weights and statistics of batch "
            "norm stay those of the ReLU network. No augmentation. The sizes are those that two "
            "busy cores afford: few images, so errors are large and differ from seed to seed."
        ),
        "",
        (
            "A seed draws the training and validation images from the train split, the head, and "
            "the order of the samples. Everything is chosen on validation images, never on test: "
            f"rates, weight decays, epochs and ridge by each seed, of the {KEPT} best points of seed "
            "0, which searches the whole grid. NLFT: the paper's 2 × 2 grid, "
            f"{EPOCHS['nlft']} epochs; then rate 0.003, between the paper's, for three times as many; "
            "and frozen batch norm where there is batch norm. GaF six rates, FC five, LQF and LQF-FC "
            "two (in units of 1/λ_max of the preconditioned Hessian), exact LQF four ridges "
            "(conjugate gradients in the dual, to a relative residual of 1e-3)."
        ),
        "",
        "**Test error (%), mean ± standard deviation over seeds**",
        "",
        line(
            [
                "data set",
                "classes",
                "train / val / test",
                "n",
                *(TITLES[m] for m in methods),
            ]
        ),
        line(["---"] * 4 + ["---:"] * len(methods)),
    ]
    for dataset in datasets:
        some = next(r["rows"][0] for r in rows if r["dataset"] == dataset)
        counts = {len(found[dataset, m]["errors"]) for m in methods if (dataset, m) in found}
        cells = [
            told(found[dataset, m]["errors"]) if (dataset, m) in found else "" for m in methods
        ]
        sizes = f"{some['n_train']} / {some['n_val']} / {some['n_test']}"
        lines.append(
            line([dataset, some["classes"], sizes, "–".join(map(str, sorted(counts))), *cells])
        )
    lines += ["", "Chosen on validation, seed 0:", ""]
    lines += [line(["data set", *(TITLES[m] for m in methods)]), line(["---"] * (1 + len(methods)))]
    for dataset in datasets:
        cells = [
            _chosen_words(found[dataset, m]["best"][0]) if (dataset, m) in found else ""
            for m in methods
        ]
        lines.append(line([dataset, *cells]))
    wrong = [
        f"{row['dataset']} {TITLES[row['method']]}: {sum(r['status'] != 'ok' for r in row['rows'])}"
        for row in rows
        if any(r["status"] != "ok" for r in row["rows"])
    ]
    lines += ["", "Diverged grid points: " + ("; ".join(wrong) if wrong else "none") + "."]
    short = sum(
        1 for row in rows if row["method"] == "lqf_exact" and not _met(row["rows"][row["chosen"]])
    )
    fits = sum(row["method"] == "lqf_exact" for row in rows)
    told_residual = (
        f"Exact LQF ended above a relative residual of {first_tolerance(rows):g} in {short} of {fits} "
        "chosen fits: there it is conjugate gradients stopped early, and not the optimum."
        if short
        else f"Exact LQF met a relative residual of {first_tolerance(rows):g} in all {fits} chosen fits."
    )
    lines += ["", told_residual]
    edges = {
        f"{row['dataset']} {TITLES[row['method']]}"
        for row in rows
        if row["seed"] == 0 and row["method"] in ("fc", "gaf") and _largest_rate(row)
    }
    if edges:
        lines += ["", f"Best at the largest rate tried: {', '.join(sorted(edges))}."]
    if left := [name for name in SETS if name not in datasets]:
        lines += ["", f"Not run for want of time: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


def first_tolerance(rows: list[dict[str, Any]]) -> float:
    """The tolerance that the exact solver was given."""
    points = [row["rows"][0]["point"]["tolerance"] for row in rows if row["method"] == "lqf_exact"]
    return points[0] if points else float("nan")


def _largest_rate(row: dict[str, Any]) -> bool:
    best = row["rows"][row["chosen"]]
    return best["point"]["rate"] == max(each["point"]["rate"] for each in row["rows"])


def _met(row: dict[str, Any]) -> bool:
    return row["residual"] is None or row["residual"] <= row["point"]["tolerance"]


def _chosen_words(row: dict[str, Any]) -> str:
    point = row["point"]
    if row["optimizer"] == "pcg":
        return f"wd {point['weight_decay']:g}, {row['passes']:g} passes"
    words = [f"η {point['rate']:g}" + (" /λ" if point["relative"] else "")]
    if row["method"] == "nlft":
        words += [f"wd {point['weight_decay']:g}", f"batch norm {point['batch_norm']}"]
    return ", ".join([*words, f"{point['epochs']} epochs"])


def plot(result: dict[str, Any], path: Path) -> None:
    """Each seed's error as a dot, their mean as a bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from lqf.report.style import COLOURS

    found = summary(result["rows"])
    datasets = list(dict.fromkeys(dataset for dataset, _ in found))
    methods = list(dict.fromkeys(method for _, method in found))
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        places = [i + (number - (len(methods) - 1) / 2) * width for i in range(len(datasets))]
        errors = [found.get((dataset, method), {"errors": []})["errors"] for dataset in datasets]
        means = [statistics.mean(e) if e else 0.0 for e in errors]
        axes.bar(places, means, 0.9 * width, color=COLOURS[method], label=TITLES[method], alpha=0.7)
        for place, each in zip(places, errors, strict=True):
            axes.plot([place] * len(each), each, "k.", ms=3)
    axes.set_xticks(range(len(datasets)), datasets, fontsize="small")
    axes.set_ylabel("test error (%)")
    axes.set_title("chosen on validation; dots are seeds", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=len(methods), fontsize="small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
