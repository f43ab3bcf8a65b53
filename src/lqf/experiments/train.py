"""Comparison, ablation, fine-grained (Tables 1 and 2, Figures 1 left and 2): one method, one task."""

from __future__ import annotations

from pathlib import Path

from lqf.compute import Compute
from lqf.experiments.grid import Point, grid_points
from lqf.experiments.problem import Problem, make_problem
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, Task, build_network, load_task, with_validation
from lqf.method import Method, get


def method_of(name: str, settings: Settings) -> Method:
    """The choices of a method: those of the settings, or the paper's point of that name."""
    return Method(**settings["method"]) if "method" in settings else get(name)


def problem_of(method: Method, task: Task, weights: Path, settings: Settings, seed: int) -> Problem:
    """The method's problem on the task, from the pre-trained weights and a head drawn from seed."""
    network = build_network(method, weights, task.classes, task.train.images, settings, seed)
    fold = settings["backbone"]["fold_batch_norm"]
    compute = Compute.of(settings)
    compute.allow_tf32(method)
    return make_problem(method, network, task, settings["target_scale"], fold, compute)


def train(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Train one method on one data set, at every point of its grid.

    Args:
        name: name of the method.
        dataset: name of the data set.
        seed: draws the head and the order of the samples.
        data: folder of the prepared data set.
        weights: features of the pre-trained backbone.
        settings: the job's settings.

    Returns:
        One row a grid point.
    """
    task = load_task(data, dataset, settings["train_per_class"], settings, seed)
    title = f"{dataset} {name} seed {seed}"
    rows = search(name, task, seed, data, weights, settings, title)
    return [{**row, "experiment": "train"} for row in rows]


def search(
    name: str, task: Task, seed: int, data: Path, weights: Path, settings: Settings, title: str
) -> list[Row]:
    """Fit every point of the grid, choose one on validation, and fit it again with those images.

    An exact optimum chooses nothing there, so it is fitted once, to the images of both.

    Args:
        name: name of the method.
        task: the task.
        seed: draws the head and the order of the samples.
        data: folder of the prepared data set.
        weights: features of the pre-trained backbone.
        settings: the job's settings.
        title: tells this search from others of the job.

    Returns:
        One row a grid point; that of the chosen one holds ``refit_err``, the test error of the second
        fit, and ``refit_n_train``, its number of images. No ``refit_err`` means that it diverged.
    """
    method = method_of(name, settings)
    points = grid_points(method, settings["training"][method.training])

    def fits(of: Task, which: list[Point], title: str) -> list[Row]:
        problem = problem_of(method, of, weights, settings, seed)
        return fit_grid(name, method, problem, of, which, settings, seed, title)[0]

    if method.exact:
        rows = fits(with_validation(data, task, settings), points, title)
        for row in rows:
            row |= {
                "val_err": None,
                "refit_err": row.get("test_err"),
                "refit_n_train": row["n_train"],
            }
        return rows
    rows = fits(task, points, title)
    for point, row in zip(points, rows, strict=True):
        if row["selected_val"]:
            whole = with_validation(data, task, settings)
            (again,) = fits(whole, [point], f"{title}, refit")
            row |= {"refit_err": again.get("test_err"), "refit_n_train": len(whole.train)}
    return rows
