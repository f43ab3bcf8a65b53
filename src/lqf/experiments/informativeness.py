"""Informative samples and what removing them costs (Figure 6, LQF §4.6).

Scores and retrained models are those of exact LQF (`lqf.optimum`): exact where the kernel is small, estimated
and solved again by conjugate gradients where it is not.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lqf.checkpoint import Points
from lqf.curvature import Metric, estimate
from lqf.experiments.exact_problem import ExactProblem, left_out
from lqf.experiments.grid import grid_points
from lqf.experiments.rows import Row
from lqf.experiments.task import Settings, Task, load_task
from lqf.experiments.train import problem_of
from lqf.losses import error_rate
from lqf.method import get
from lqf.optimum import SmallOptimum
from lqf.ridge import KernelMaker
from lqf.run import progress

log = logging.getLogger(__name__)

SCORE_COLUMNS = (  # noqa: SIM905  (reads better as words)
    "index row label class fsi_exact fsi_eq8 fsi_kfac leverage loo_error mu weight_decay n_train "
    "fsi_estimated scored_by"
).split()
REMOVAL_COLUMNS = (  # noqa: SIM905
    "removal schedule n_removed n_train test_err mu seed scored_by retrained_by"
).split()

#: Part of the training set that each round of the iterative schedule removes.
ROUND = 0.05


class Model:
    """The optimum of a task, and everything that is asked of its samples.

    Args:
        problem: the exact problem.
        task: its task; F-SI averages over the validation images, errors are those on test.
        settings: the job's settings.
        seed: of everything random.
    """

    def __init__(self, problem: ExactProblem, task: Task, settings: Settings, seed: int) -> None:
        self._problem, self._task = problem, task
        point = grid_points(problem.method, settings["training"]["exact"])[0]
        self.optimum = problem.optimum(point, seed)
        self.mu = self.optimum.mu
        self.scored_by = "fsi_exact" if self.optimum.exact else "fsi_estimated"
        self.retrained_by = self.optimum.certificate.solver
        self._val, self._test = (problem.inputs(split)[:] for split in (task.val, task.test))
        # Where the kernel is held, it tells everything about fewer samples too.
        self._cross: dict[str, Tensor] = {}
        if isinstance(self.optimum, SmallOptimum):
            asked = {"val": self._val, "test": self._test}
            self._cross = {name: self.optimum.kernel(images) for name, images in asked.items()}

    def ranking(self) -> Tensor:
        """F-SI of every training sample, N."""
        return self.scores(torch.arange(len(self._task.train)))

    def columns(self, ranking: Tensor) -> dict[str, Tensor]:
        """What ``scores.csv`` says of every sample, by column, N each."""
        optimum, labels = self.optimum, self._task.train.labels
        found = {
            self.scored_by: ranking,
            "leverage": optimum.ridge.leverage().diagonal(dim1=1, dim2=2).mean(1),
            "loo_error": (left_out(optimum).argmax(1) != labels).int(),
        }
        if isinstance(optimum, SmallOptimum):
            found["fsi_eq8"] = optimum.ridge.informativeness_eq8(self._cross["val"])
            found["fsi_kfac"] = self._by_kfac(optimum)
        return found

    def _by_kfac(self, optimum: SmallOptimum) -> Tensor:
        """``mean_t ‖J_t P J_iᵀ r_i‖²`` with ``P = (F + μ/N)⁻¹/N``: removal to first order, by EKFAC alone."""
        problem, N = optimum.problem, len(self._task.train)
        curvature = optimum.curvature or estimate(optimum.samples, problem.images)
        damping = optimum.mu / N
        metric = Metric(curvature, problem.linearized.layout, damping)
        maker = KernelMaker(optimum.samples, metric)
        residuals = optimum.ridge.residuals
        total = torch.zeros(N, dtype=torch.float64, device=residuals.device)
        for part in self._val.split(16):
            cross = maker.cross(part, problem.images) / N
            effect = torch.einsum("tnc,nc->tn", cross.view(len(cross), *residuals.shape), residuals)
            total += effect.square().sum(0)
        return total / len(self._val)

    def _without(self, kept: Tensor) -> Tensor:
        """Which samples are not in ``kept``."""
        gone = torch.ones(len(self._task.train), dtype=torch.bool, device=kept.device)
        gone[kept] = False
        return gone.nonzero().squeeze(1)

    def scores(self, kept: Tensor) -> Tensor:
        """F-SI of the samples in ``kept`` in the model trained on them."""
        optimum, kept = self.optimum, kept.to(self.optimum.delta.device)
        if isinstance(optimum, SmallOptimum):
            ridge = optimum.ridge.remove(self._without(kept))
            return ridge.informativeness(self._cross["val"][:, optimum.ridge.rows(kept)])
        return optimum.forget(kept, self._without(kept)).informativeness(self._val)

    def errors(self, kept: Tensor) -> tuple[float, float]:
        """Training and test error in % of the model trained on the samples in ``kept``."""
        optimum, kept = self.optimum, kept.to(self.optimum.delta.device)
        train, test = self._task.train.select(kept), self._task.test
        if isinstance(optimum, SmallOptimum):
            ridge = optimum.ridge.remove(self._without(kept))
            fitted = ridge.target - ridge.residuals
            outputs = ridge.predict(self._cross["test"][:, optimum.ridge.rows(kept)])
        else:
            found = optimum.forget(kept, self._without(kept))
            fitted, outputs = (self._problem.outputs(found, split) for split in (train, test))
        return error_rate(fitted, train.labels), error_rate(outputs, test.labels)


def informativeness(
    dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> tuple[list[Row], list[Row]]:
    """Score every training sample of the LQF optimum, and remove samples by score.

    F-SI averages over the validation images (labels unused); curves show the test error. The constants
    are chosen by leave-one-out on the training samples. Scores that were not computed are empty;
    ``scored_by`` names the one that orders removal.

    Args:
        dataset: name of the data set.
        seed: draws the head, and the order of random removal.
        data: folder of the prepared data set.
        weights: features of the pre-trained backbone.
        settings: the job's settings.

    Returns:
        Rows of ``scores.csv`` and of ``removal.csv``.

    Raises:
        TypeError: if the method were not a linear one.
    """
    method = get("lqf_exact")
    task = load_task(data, dataset, settings["train_per_class"], settings)
    problem = problem_of(method, task, weights, settings, seed)
    if not isinstance(problem, ExactProblem):
        raise TypeError("informative samples are those of an exact optimum.")
    title = f"informativeness {dataset} seed {seed}"
    known = Points(title)
    counts = _removals(task, settings["experiment"]["removals"])
    with progress(1 + 5, title, "part") as bar:
        model = Model(problem, task, settings, seed)
        scored = known.get("scores")
        if scored is None:
            ranking = model.ranking()
            rows = _score_rows(model, task, ranking)
            scored = {"ranking": ranking.tolist(), "rows": rows}
            known.put("scores", scored)
        bar.update()
        curves: list[Row] = []
        for name, schedule in ORDERS:
            ranking = torch.tensor(scored["ranking"], dtype=torch.float64)
            curves += _curve(model, task, known, ranking, counts, seed, name, schedule)
            bar.update()
    return scored["rows"], curves


def _removals(task: Task, asked: list[int]) -> list[int]:
    """The removals that leave more samples than classes; the log says which are left out."""
    most = len(task.train) - task.classes
    if max(asked) >= most:
        log.warning(
            "experiments.informativeness.removals: %s are left out, because of %d training samples "
            "more than one for each of %d classes must stay",
            ", ".join(str(n) for n in asked if n >= most),
            len(task.train),
            task.classes,
        )
    return [n for n in asked if n < most]


def _score_rows(model: Model, task: Task, ranking: Tensor) -> list[Row]:
    columns: dict[str, list[Any]] = {
        name: values.tolist() for name, values in model.columns(ranking).items()
    }
    labels = task.train.labels.tolist()
    return [
        {
            "index": n,
            "row": int(task.train.rows[n]),
            "label": label,
            "class": task.class_names[label],
            **{name: values[n] for name, values in columns.items()},
            "mu": model.mu,
            "weight_decay": model.mu / len(labels),
            "n_train": len(labels),
            "scored_by": model.scored_by,
        }
        for n, label in enumerate(labels)
    ]


#: Every order of removal: by score once, by score again after each round, and at random.
ORDERS = (
    ("most", "one_shot"),
    ("least", "one_shot"),
    ("most", "iterative"),
    ("least", "iterative"),
    ("random", "one_shot"),
)


def _curve(
    model: Model,
    task: Task,
    known: Points,
    ranking: Tensor,
    counts: list[int],
    seed: int,
    name: str,
    schedule: str,
) -> list[Row]:
    """Remove samples in one order, and measure the models of those that are left."""
    samples = len(task.train)
    if name == "random":
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    elif schedule == "one_shot":
        order = ranking.argsort(descending=name == "most")
    else:
        order = iterated(model, known, samples, max(counts), name)

    def kept(number: int) -> Tensor:
        return order[counts[number] :].sort().values

    rows: list[Row] = []
    for number, count in enumerate(counts):
        place = ("error", name, schedule, count)
        found = known.get(place)
        if found is None:
            found = {"test_err": model.errors(kept(number))[1]}
            known.put(place, found)
        rows.append(
            {
                "removal": name,
                "schedule": schedule,
                "n_removed": count,
                "n_train": samples - count,
                **found,
                "mu": model.mu,
                "seed": seed,
                "scored_by": None if name == "random" else model.scored_by,
                "retrained_by": model.retrained_by,
            }
        )
    return rows


def iterated(model: Model, known: Points, samples: int, last: int, name: str) -> Tensor:
    """The order in which samples leave if the rest is scored again after every 5 % removed."""
    step = max(1, round(ROUND * samples))
    left = [torch.arange(samples)]
    gone: list[Tensor] = []
    while sum(map(len, gone)) < last and len(left[-1]) > step:
        place = ("round", name, len(gone))
        found = known.get(place)
        if found is None:
            scores = model.scores(left[-1])
            order = left[-1][scores.argsort(descending=name == "most").cpu()]
            found = {"order": order.tolist()}
            known.put(place, found)
        order = torch.tensor(found["order"])
        gone.append(order[:step])
        left.append(order[step:].sort().values)
    return torch.cat([*gone, left[-1]])
