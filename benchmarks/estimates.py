"""Estimated answers about the samples of large problems, beside the exact ones under the same constants.

The problems are too large for the estimator to form their kernel and small enough to form it here, once, which takes
minutes.
"""

from __future__ import annotations

import time
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks import realbench
from benchmarks.machine import table, told
from benchmarks.realbench import Sizes
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.grid import Point
from lqf.experiments.task import Task
from lqf.losses import error_rate
from lqf.method import get
from lqf.optimum import LargeOptimum
from lqf.ridge import DenseRidge, KernelMaker

TITLE = "Estimated leave-one-out, information and covariance of large problems"
ROUNDS = 1
NETWORK, RESOLUTION = "squeezenet1_1", 64
#: Data set -> training images of a class.
SETS = {"caltech101_20": 5, "cub_25": 3, "dtd_10": 15, "intel_scenes_6": 40}
#: Test images of a class.
TEST = 3
HEAD = [
    *("data", "images", "classes", "LOO error", "exact", "residuals off", "rank", "level"),
    *("F-SI rank", "F-SI level", "covariance off", "rank", "CPU-s fit", "LOO", "exact"),
]


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a data set and seed.

    Args:
        rounds: seeds.
        small: one data set, two images of a class.
    """
    rows = []
    for name, count in list(SETS.items())[: 1 if small else None]:
        for seed in range(rounds):
            task = realbench.load(name, Sizes(2 if small else count, 1, TEST), RESOLUTION, seed)
            rows.append({"data": name, "seed": seed, **_compared(task, seed)})
            print(rows[-1], flush=True)
    return rows


def _compared(task: Task, seed: int) -> dict[str, Any]:
    images, labels = task.train.images[:], task.train.labels
    network = realbench.network(NETWORK, task.classes, "leaky_relu", 0.1, seed, images)
    problem = ExactProblem(get("lqf_exact"), network, task, 15.0, fold=True)
    started = time.process_time()
    optimum = problem.optimum(Point(0.0, tolerance=1e-2, max_passes=50), seed)
    if not isinstance(optimum, LargeOptimum):
        raise TypeError(f"{len(images)} images of {task.classes} classes are solved exactly.")
    seconds = {"fit_s": time.process_time() - started}
    test = problem.inputs(task.test)
    started = time.process_time()
    left_out = optimum.leave_one_out()
    seconds["leave_one_out_s"] = time.process_time() - started
    information, covariance = optimum.informativeness(test), optimum.covariance(test)

    started = time.process_time()
    maker, target = KernelMaker(optimum.samples, optimum.metric), optimum.problem.target
    truth = DenseRidge(maker.gram(optimum.problem.images), target, optimum.mu)
    cross = maker.cross(test, optimum.problem.images)
    true = truth.leave_one_out()
    seconds["exact_s"] = time.process_time() - started
    true_covariance = truth.covariance(cross, maker.own(test))
    return {
        "images": len(images),
        "classes": task.classes,
        "test_err": error_rate(problem.outputs(optimum, task.test), task.test.labels),
        "loo_err": error_rate(target.double() - left_out.residuals, labels),
        "true_loo_err": error_rate(target.double() - true, labels),
        "loo_off": _off(left_out.residuals, true),
        "loo_rank": _rank(left_out.residuals.norm(dim=1), true.norm(dim=1)),
        "level": left_out.level[0],
        "level_std": left_out.level[1],
        "information_rank": _rank(information, truth.informativeness(cross)),
        "information_level": float((information / truth.informativeness(cross)).median().sqrt()),
        "covariance_off": _off(covariance, true_covariance),
        "covariance_rank": _rank(_variance(covariance), _variance(true_covariance)),
        **seconds,
    }


def _off(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def _rank(found: Tensor, true: Tensor) -> float:
    return float(spearmanr(found, true).statistic)


def _variance(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2).mean(1)


def markdown(result: dict[str, Any]) -> str:
    """The report: a row a data set and seed."""
    lines = []
    for row in result["rows"]:
        numbers = [f"{row[name]:.1f}" for name in ("loo_err", "true_loo_err")]
        numbers += [f"{row['loo_off']:.3f}", f"{row['loo_rank']:.3f}"]
        numbers += [f"{row['level']:.2f} ± {row['level_std']:.2f}"]
        numbers += [f"{row['information_rank']:.3f}", f"{row['information_level']:.2f}"]
        numbers += [f"{row['covariance_off']:.3f}", f"{row['covariance_rank']:.3f}"]
        numbers += [f"{row[name]:.0f}" for name in ("fit_s", "leave_one_out_s", "exact_s")]
        lines.append([row["data"], str(row["images"]), str(row["classes"]), *numbers])
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            told(result),
            "",
            (
                f"{NETWORK} at {RESOLUTION} pixels, constants chosen by the estimator, conjugate gradients to a residual of "
                "1e-2. *Exact* is the leave-one-out error (%) of the formed kernel, whose forming and decomposition are the "
                "CPU-s in the last column. *Off* is the Frobenius norm of the difference by that of the truth, *rank* "
                "Spearman's correlation of the residuals' norms over training images, of F-SI over training images and of "
                "mean variances over test images; the level of F-SI is the root of the median ratio, where 1 is right. "
                "*Level* is what solving for three samples found, and its standard deviation over them. To reach: 2 "
                "points, 0.95."
            ),
            "",
            *table(HEAD, lines),
            "",
        ]
    )


def plot(result: dict[str, Any]) -> Figure:
    """Estimated beside exact leave-one-out errors."""
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    for row in result["rows"]:
        axes.plot(row["true_loo_err"], row["loo_err"], "o", label=row["data"])
    axes.axline((0, 0), slope=1, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="leave-one-out error (%), exact", ylabel="estimated")
    axes.legend()
    return figure
