"""Eigenvalues of Gauss–Newton matrices before and after non-linear fine-tuning (Figure 3).

The matrices are G = (1/N) Σ JᵀHJ on a fixed subset of the training images, in evaluation mode with
batch norm folded: that of the squared loss (H = I), and that of the cross-entropy that is trained,
which is the Hessian that the paper speaks of, up to the curvature of the network itself.  Their
non-zero eigenvalues are those of Gram matrices of the samples, formed layer by layer.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from lqf.budget import budget, gigabytes
from lqf.checkpoint import Points
from lqf.curvature import Metric, SampleGradients
from lqf.experiments.grid import grid_points
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Settings, load_task
from lqf.experiments.train import problem_of
from lqf.jacobian import Linearized
from lqf.losses import CrossEntropy
from lqf.method import get
from lqf.networks import fold_batch_norm
from lqf.ridge import KernelMaker
from lqf.spectrum import effective_dimension, gram_eigenvalues, loss_gram

log = logging.getLogger(__name__)

COLUMNS = (  # noqa: SIM905  (reads better as words)
    "dataset seed phase matrix index eigenvalue n_samples ridge effective_dimension test_err"
).split()


def spectrum(dataset: str, seed: int, data: Path, weights: Path, settings: Settings) -> list[Row]:
    """Train NLFT on its grid, and compare the spectra at w0 and at its end.

    Arguments as in `lqf.experiments.train.train`.

    Returns:
        One row an eigenvalue, matrix (``squared``, ``cross_entropy``) and phase (``init``, ``end``), in
        descending order.  ``ridge`` is the weight decay that the fit was chosen with.

    Raises:
        TypeError: if the method were not a non-linear one.
        ValueError: if every grid point diverged.
    """
    name = "nlft"
    method, experiment = get(name), settings["experiment"]
    task = load_task(data, dataset, settings["train_per_class"], settings, seed)
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
    ridge = points[selected[0]].weight_decay
    _refuse_large(len(images) * task.classes, task.classes, images.device)
    known = Points(f"{title}, eigenvalues")
    for phase, network in (("init", start), ("end", trained)):
        if network is None:
            raise TypeError("the fit of a non-linear method holds its network.")
        for matrix, found in _known_eigenvalues(known, phase, network, images).items():
            values = torch.tensor(found["values"], dtype=torch.float64)
            dimension = effective_dimension(values, ridge)
            log.info(
                "%s, %s: largest eigenvalue %.4g, effective dimension %.1f at ridge %g",
                *(phase, matrix, values[0], dimension, ridge),
            )
            result += [
                {
                    "dataset": dataset,
                    "seed": seed,
                    "phase": phase,
                    "matrix": matrix,
                    "index": index,
                    "eigenvalue": float(value),
                    "n_samples": len(images),
                    "ridge": ridge,
                    "effective_dimension": dimension,
                    "test_err": rows[selected[0]]["test_err"] if phase == "end" else None,
                }
                for index, value in enumerate(values)
            ]
    return result


def _refuse_large(rows: int, classes: int, place: torch.device) -> None:
    """The eigenvalues of an NC × NC matrix need four of them in float64.

    Raises:
        ValueError: if that is more than a job may plan with.
    """
    allowed = budget(place)
    needed = 4 * 8 * rows**2
    if needed > allowed:
        most = int((allowed / 32) ** 0.5) // classes
        raise ValueError(
            f"experiments.spectrum.samples is {rows // classes}, whose Gram matrix with {classes} "
            f"classes needs {gigabytes(needed)}, of which there are {gigabytes(allowed)}: at most "
            f"{most} samples fit."
        )


def _known_eigenvalues(
    known: Points, phase: str, network: nn.Module, images: Tensor
) -> dict[str, Row]:
    """Matrix -> its eigenvalues, from before an interruption if they were found."""
    found: dict[str, Row] | None = known.get(phase)
    if found is None:
        gram, outputs = _gram(network, images)
        weighted = loss_gram(gram, CrossEntropy().hessian_root(outputs.double()))
        found = {
            matrix: {"values": gram_eigenvalues(one, len(images)).tolist()}
            for matrix, one in (("squared", gram), ("cross_entropy", weighted))
        }
        known.put(phase, found)
    return found


def _gram(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """JJᵀ and the outputs, N × C."""
    linearized = Linearized(fold_batch_norm(network))
    maker = KernelMaker(SampleGradients(linearized, images), Metric(None, linearized.layout))
    return maker.gram(images), linearized.outputs(images)
