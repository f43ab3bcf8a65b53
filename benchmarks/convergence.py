"""Passes over the data until the linearised problem's test error is that of its optimum."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import real, realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf.curvature import (
    Coordinates,
    Preconditioner,
    eigenvalue_correction,
    kronecker_factors,
)
from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Task
from lqf.losses import error_rate
from lqf.method import get
from lqf.solve import Diverged, KernelPreconditioner, solve_dual_pcg, solve_pcg, solve_sgd

TITLE = "Passes over the data until the test error is that of the optimum"
# Seeds.
ROUNDS = 1
# Points of test error from the optimum's, and the passes to reach it in.
WITHIN, TARGET = 0.3, 8
SETS = {"cub_25": Sizes(5, 5, 10), "intel_scenes_6": Sizes(18, 18, 40)}
# μ / N, and with it the damping.
RIDGE = 1e-4
LONG, SHORT = 30, 16
COORDINATES = 4096
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16)
RATES = {"kfac_sgd": (0.1, 0.3, 1.0), "sgd": (0.01, 0.03, 0.1)}
NAMES = {
    "dual": "conjugate gradients in the dual, 4,096 coordinates",
    "pcg": "conjugate gradients, EKFAC",
    "pcg_kfac": "conjugate gradients, K-FAC of one probe",
    "kfac_sgd": "K-FAC-SGD, its best rate",
    "sgd": "SGD, its best rate",
}

# Over the data, before the first pass.
WALKS = {"dual": 3, "pcg": 2, "pcg_kfac": 1, "kfac_sgd": 2, "sgd": 0}


class _Curve:
    """The test error after passes over the data."""

    def __init__(self, problem: LinearProblem, task: Task, base: float) -> None:
        self._jacobian, self._labels = problem.jacobian_of(task.test), task.test.labels
        self._base = base
        self.points: list[tuple[float, float]] = []

    def at(self, passes: float, delta: Tensor) -> None:
        """Measure the error at δ."""
        outputs = self._jacobian.base + self._jacobian.forward(delta)
        self.points.append((self._base + passes, error_rate(outputs, self._labels)))


def conjugate_gradients(
    problem: LinearProblem, task: Task, kind: str, passes: int, shown: tuple[int, ...]
) -> dict[str, Any]:
    """The curve of one preconditioner; the right-hand side is half a pass."""
    curve = _Curve(problem, task, 0.5)
    network, images, names = problem.network, task.train.images, problem.layout.names

    def on_pass(iteration: int, delta: Tensor) -> None:
        if iteration in shown:
            curve.at(iteration, delta)

    common = {"tolerance": 1e-4, "max_passes": passes + 2, "on_pass": on_pass}
    given = (problem.jacobian, problem.residual_target(), RIDGE)
    if kind == "dual":
        factors = kronecker_factors(network, images, names, probes=1)
        eigenvalues = eigenvalue_correction(network, images, factors)
        coordinates = Coordinates(factors, COORDINATES, rest="dropped", eigenvalues=eigenvalues)
        rows = coordinates.rows(network, images)
        missing = coordinates.missing / rows.shape[1]
        kernel = KernelPreconditioner(rows, len(images) * RIDGE, missing)
        solution = solve_dual_pcg(*given, preconditioner=kernel, **common)
    elif kind == "pcg":
        solution = solve_pcg(*given, preconditioner=problem.preconditioner(RIDGE), **common)
    else:
        factors = kronecker_factors(network, images, names, probes=1)
        preconditioner = Preconditioner(factors, problem.layout, RIDGE)
        solution = solve_pcg(*given, preconditioner=preconditioner, **common)
    curve.at(solution.passes - 1.5, solution.delta)
    return {"curve": sorted(set(curve.points)), "residual": solution.residual}


def gradient_descent(
    problem: LinearProblem, task: Task, kind: str, rate: float, passes: int
) -> dict[str, Any]:
    """The curve of mini-batches of 32 with momentum 0.9 at a constant rate."""
    curve = _Curve(problem, task, 0.0)
    preconditioner, point = None, replace(real._SGD, rate=rate, weight_decay=RIDGE)
    if kind == "kfac_sgd":
        point = replace(point, relative=True, damping=RIDGE)
        preconditioner = problem.preconditioner(RIDGE)

    def on_epoch(epoch: int, delta: Tensor, loss: float) -> None:
        if epoch in SHOWN:
            curve.at(epoch, delta)

    try:
        solve_sgd(
            problem.jacobian,
            problem.loss,
            task.train.labels,
            weight_decay=RIDGE,
            rate=problem.rate(point) or rate,
            epochs=passes,
            milestones=(),
            batch=32,
            preconditioner=preconditioner,
            on_epoch=on_epoch,
        )
    except Diverged:
        return {"curve": curve.points, "diverged": True}
    return {"curve": curve.points, "diverged": False}


def reached(curve: list[list[float]], optimum: float, test: int) -> float | None:
    """Passes after which the error stays near the optimum's, or below.

    Near is `WITHIN` points, or one test image where that is more.
    """
    passes = None
    for at, error in reversed(curve):
        if error > optimum + max(WITHIN, 100.0 / test) + 1e-9:
            break
        passes = at
    return passes


def measure(
    rounds: int = ROUNDS, small: bool = False, *, network: str = real.NETWORK
) -> list[dict[str, Any]]:
    """Curves of every solver on every data set, one row a data set and seed.

    Raises:
        Absent: if the real images or weights are not at hand.
    """
    archives = realbench.folder() / "datasets"
    rows = []
    long, short = (3, 2) if small else (LONG, SHORT)
    for dataset in (name for name in SETS if (archives / f"{name}.tar").is_file()):
        for seed in range(rounds):
            sizes = Sizes(3, 2, 4) if small else SETS[dataset]
            task = realbench.load(dataset, sizes, real.RESOLUTION, seed)
            made = get("lqf_exact")
            start = realbench.network(
                network, task.classes, made.activation, real.SLOPE, seed, task.train.images
            )
            problem = LinearProblem(made, start, task, real.TARGET_SCALE, fold=True)
            common = {
                "benchmark": "convergence",
                "dataset": dataset,
                "sizes": asdict(sizes),
                "seed": seed,
                "network": network,
                "resolution": real.RESOLUTION,
                "square": realbench.SQUARE,
                "ridge": RIDGE,
            }
            shown = (*SHOWN, *range(20, long, 4))
            made_by = {
                ("dual", None): partial(conjugate_gradients, problem, task, "dual", long, shown),
                ("pcg", None): partial(conjugate_gradients, problem, task, "pcg", short, SHOWN),
                ("pcg_kfac", None): partial(
                    conjugate_gradients, problem, task, "pcg_kfac", short, SHOWN
                ),
            }
            for kind, rates in RATES.items():
                for rate in rates:
                    make = partial(gradient_descent, problem, task, kind, rate, short)
                    made_by[kind, rate] = make
            curves = [
                {"kind": kind, "rate": rate}
                | cell({**common, "kind": kind, "rate": rate, "passes": (long, short)}, make)
                for (kind, rate), make in made_by.items()
            ]
            optimum = curves[0]["curve"][-1][1]
            for curve in curves:
                curve["reached"] = reached(curve["curve"], optimum, len(task.test))
            counts = {"train": len(task.train), "test": len(task.test), "classes": task.classes}
            rows.append(
                {
                    "dataset": dataset,
                    "seed": seed,
                    "network": network,
                    "ridge": RIDGE,
                    "optimum": optimum,
                    "residual": curves[0]["residual"],
                    "curves": curves,
                    **counts,
                }
            )
    return rows


def best(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """The curve of a solver; of several rates, the one that is there first, or ends lowest."""
    some = [curve for curve in row["curves"] if curve["kind"] == kind and curve["curve"]]
    return min(some, key=lambda c: (c["reached"] or math.inf, c["curve"][-1][1]))


def markdown(result: dict[str, Any]) -> str:
    """What was done, passes needed, and the errors on the way."""
    rows = result["rows"]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {machine}.", ""]
    lines += [
        (
            f"{rows[0]['network']} with ImageNet weights at {real.RESOLUTION} pixels, leaky slope "
            f"{real.SLOPE} by swap, squared loss with α = {real.TARGET_SCALE:g}, μ/N = "
            f"{rows[0]['ridge']:g}; nothing is searched for conjugate gradients (damping μ/N). The "
            f"optimum is where the dual ends. *Passes* are those after which the test error stays "
            f"within {WITHIN} points of the optimum's (or one test image, where that is more), or "
            f"below it, to reach: {TARGET}. *Walks* over "
            "the data for the curvature come before them: factors, their eigenvalues (EKFAC), and "
            "for the dual the rows of J in the coordinates of largest curvature, which take one "
            "backward pass for each class. One pass is 5/3 of an ordinary fine-tuning step, of the "
            "dual 6/3. SGD and K-FAC-SGD have momentum 0.9, mini-batches of 32 and a constant rate; "
            "of the rates tried the best is shown, which is picked with hindsight, on test, in "
            "their favour."
        ),
        "",
        line(
            [
                "data set",
                "train / test",
                "solver",
                "rate",
                "walks",
                "passes",
                "error at it (%)",
                "optimum",
            ]
        ),
        line(["---"] * 8),
    ]
    for row in rows:
        for kind, title in NAMES.items():
            curve = best(row, kind)
            at = curve["reached"]
            error = next((e for p, e in curve["curve"] if p == at), None)
            lines.append(
                line(
                    [
                        f"{row['dataset']}, seed {row['seed']}",
                        f"{row['train']} / {row['test']}",
                        title,
                        "—" if curve["rate"] is None else f"{curve['rate']:g}",
                        WALKS[kind],
                        f"not within {curve['curve'][-1][0]:g}" if at is None else f"{at:g}",
                        "" if error is None else f"{error:.1f}",
                        f"{row['optimum']:.1f}",
                    ]
                )
            )
    lines += ["", "Test error (%) after passes:", ""]
    lines += [line(["data set", "solver", *SHOWN]), line(["---"] * (2 + len(SHOWN)))]
    for row in rows:
        for kind, title in NAMES.items():
            errors = {math.floor(p): e for p, e in best(row, kind)["curve"]}
            cells = [f"{errors[at]:.1f}" if at in errors else "" for at in SHOWN]
            lines.append(line([f"{row['dataset']}, seed {row['seed']}", title, *cells]))
    ends = ", ".join(f"{row['dataset']} {row['residual']:.1e}" for row in rows)
    lines += ["", f"Relative residual of the optimum: {ends}."]
    edges = [
        f"{row['dataset']} {NAMES[kind]} ({best(row, kind)['rate']:g})"
        for row in rows
        for kind, rates in RATES.items()
        if best(row, kind)["rate"] in (min(rates), max(rates))
    ]
    if edges:
        lines += ["", f"Best at the edge of the rates tried: {'; '.join(edges)}."]
    for row in rows:
        lowest = {kind: min(e for _, e in best(row, kind)["curve"]) for kind in NAMES}
        under = [
            f"{NAMES[kind]} {error:.1f}"
            for kind, error in lowest.items()
            if error < row["optimum"] - WITHIN
        ]
        if under:
            lines += [
                "",
                (
                    f"{row['dataset']}, seed {row['seed']}: lower than the optimum's "
                    f"{row['optimum']:.1f} on the way: {'; '.join(under)}. Stopping early "
                    "regularises, here more than this ridge does."
                ),
            ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Test error against passes, one panel a data set and seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        1, len(rows), figsize=(max(7.5, 4.5 * len(rows)), 3.8), squeeze=False, layout="constrained"
    )
    for axes, row in zip(panels[0], rows, strict=True):
        for kind, title in NAMES.items():
            passes, errors = zip(*best(row, kind)["curve"], strict=True)
            axes.plot(passes, errors, ".-", label=title)
        axes.axhspan(0, row["optimum"] + WITHIN, color="0.92", zorder=0)
        axes.axvline(TARGET, color="k", lw=0.8, ls=":")
        lowest = min(e for c in row["curves"] for _, e in c["curve"])
        axes.set_ylim(max(0.0, lowest - 4), None)
        axes.set_xlim(0, 24)
        axes.set_xlabel("passes over the training images")
        axes.set_ylabel("test error (%)")
        axes.set_title(f"{row['dataset']}, seed {row['seed']}", fontsize="medium")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
