"""Eigenvalues of the Gauss–Newton matrix before and after non-linear fine-tuning (Figure 3).

The matrix is G = (1/N) Σ JᵀJ on a fixed subset of the training images, in evaluation mode with
batch norm folded; its non-zero eigenvalues are those of the Gram matrix JJᵀ/N, computed densely.
"""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor, nn

from lqf.experiments.grid import grid_points
from lqf.experiments.problem import NonlinearProblem
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, load_task
from lqf.experiments.train import problem_of
from lqf.linear import DenseJacobian, Linearized
from lqf.method import get
from lqf.networks import fold_batch_norm
from lqf.spectrum import condition_number, gram_eigenvalues, rank_kept

log = logging.getLogger(__name__)

COLUMNS = (  # noqa: SIM905  (reads better as words)
    "dataset seed phase index eigenvalue rank_kept n_samples condition_number cutoff test_err"
).split()


def spectrum(dataset: str, seed: int, data: Path, weights: Path, settings: Settings) -> list[Row]:
    """Train NLFT on its grid, and compare the spectra at w0 and at its end.

    Arguments as in `lqf.experiments.train.train`.

    Returns:
        One row an eigenvalue and phase (``init``, ``end``), in descending order.

    Raises:
        TypeError: if the method were not a non-linear one.
        ValueError: if every grid point diverged.
    """
    name = "nlft"
    method, experiment = get(name), settings["experiment"]
    task = load_task(data, dataset, settings["train_per_class"], settings)
    problem = problem_of(method, task, weights, settings, seed)
    if not isinstance(problem, NonlinearProblem):
        raise TypeError("the end of non-linear fine-tuning needs a non-linear method.")
    points = grid_points(method, settings["training"][method.training])
    title = f"spectrum {dataset} seed {seed}"
    rows, fits = fit_grid(name, method, problem, task, points, settings, seed, title)
    selected = [n for n, row in enumerate(rows) if row["selected_val"]]
    if not selected:
        raise ValueError(
            f"every grid point of {name} on {dataset!r} diverged, so there is no end point whose "
            "spectrum could be shown; add smaller rates to training.nonlinear.rates."
        )
    # A point that was finished before an interruption is trained again, to the same weights.
    fit = fits.get(selected[0]) or problem.fit(points[selected[0]], seed)
    trained = fit.network
    images = task.train.images[: experiment["samples"]]
    start = problem.network
    result: list[Row] = []
    for phase, network in (("init", start), ("end", trained)):
        if network is None:
            raise TypeError("the fit of a non-linear method holds its network.")
        values = _eigenvalues(network, images)
        kappa = condition_number(values, experiment["cutoff"])
        log.info("%s: kappa = %.4g at cutoff %g", phase, kappa, experiment["cutoff"])
        result += [
            {
                "dataset": dataset,
                "seed": seed,
                "phase": phase,
                "index": index,
                "eigenvalue": float(value),
                "rank_kept": rank_kept(values, experiment["cutoff"]),
                "n_samples": len(images),
                "condition_number": kappa,
                "cutoff": experiment["cutoff"],
                "test_err": rows[selected[0]]["test_err"] if phase == "end" else None,
            }
            for index, value in enumerate(values)
        ]
    return result


def _eigenvalues(network: nn.Module, images: Tensor) -> Tensor:
    linearized = Linearized(fold_batch_norm(network))
    jacobian = DenseJacobian(linearized.jacobian(images), linearized.outputs(images))
    return gram_eigenvalues(jacobian.gram(), len(images))
