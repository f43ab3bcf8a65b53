"""Informative samples and what removing them costs (Figure 6, LQF §4.6).

Where the Gram matrix fits, scores and retrained models come from the dual solution, all of it exact
(`lqf.experiments.informativeness_exact`); where it does not, from the rows of J in some thousand
coordinates and from conjugate gradients (`lqf.experiments.informativeness_large`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lqf.checkpoint import Points
from lqf.experiments.informativeness_exact import ExactModel
from lqf.experiments.informativeness_large import LargeModel
from lqf.experiments.problem import LinearProblem
from lqf.experiments.rows import Row
from lqf.experiments.task import Settings, Task, load_task
from lqf.experiments.train import problem_of
from lqf.method import get
from lqf.run import progress

log = logging.getLogger(__name__)

SCORE_COLUMNS = (  # noqa: SIM905  (reads better as words)
    "index row label class fsi_exact fsi_eq8 fsi_kfac leverage loo_error mu weight_decay n_train "
    "fsi_compressed scored_by"
).split()
REMOVAL_COLUMNS = (  # noqa: SIM905
    "removal schedule n_removed n_train test_err mu seed scored_by retrained_by"
).split()

#: Part of the training set that each round of the iterative schedule removes.
ROUND = 0.05

Model = ExactModel | LargeModel


def informativeness(
    dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> tuple[list[Row], list[Row]]:
    """Score every training sample of the LQF optimum, and remove samples by score.

    F-SI averages over the validation images (labels unused); curves show the test error. The ridge
    constant is chosen by leave-one-out on the training samples, or on validation where that is too
    large. Scores that were not computed are empty; ``scored_by`` names the one that orders removal.

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
    if not isinstance(problem, LinearProblem):
        raise TypeError("informative samples are defined for linear problems.")
    title = f"informativeness {dataset} seed {seed}"
    known = Points(title)
    counts = _removals(task, settings["experiment"]["removals"])
    with progress(1 + 5, title, "part") as bar:
        model = _model(problem, task, settings, seed, title)
        scored = known.get("scores")
        if scored is None:
            scored = {"ranking": model.ranking().tolist(), "rows": _score_rows(model, task)}
            known.put("scores", scored)
        bar.update()
        curves: list[Row] = []
        for name, schedule in ORDERS:
            ranking = torch.tensor(scored["ranking"], dtype=torch.float64)
            curves += _curve(model, task, known, ranking, counts, seed, name, schedule)
            bar.update()
    return scored["rows"], curves


def _model(problem: LinearProblem, task: Task, settings: Settings, seed: int, title: str) -> Model:
    """The exact model where its matrices fit in memory, else the approximate one."""
    refusal = ExactModel.refusal(problem, task)
    if refusal is None:
        return ExactModel(problem, task)
    log.info("%s: samples are scored in fewer coordinates, and retrained by iteration", refusal)
    return LargeModel(problem, task, settings["training"]["pcg"], seed, title)


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


def _score_rows(model: Model, task: Task) -> list[Row]:
    columns: dict[str, list[Any]] = {
        name: values.tolist() for name, values in model.columns().items()
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
        order = _iterated(model, known, samples, max(counts), name)

    def kept(number: int) -> Tensor:
        return order[counts[number] :].sort().values

    rows: list[Row] = []
    for number, count in enumerate(counts):
        place = ("error", name, schedule, count)
        found = known.get(place)
        if found is None:
            found = {"test_err": model.error(f"{name} {schedule}", number, kept)}
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


def _iterated(model: Model, known: Points, samples: int, last: int, name: str) -> Tensor:
    """The order in which samples leave if the rest is scored again after every 5 % removed."""
    step = max(1, round(ROUND * samples))
    left = [torch.arange(samples)]
    gone: list[Tensor] = []
    remaining: Callable[[int], Tensor] = left.__getitem__
    while sum(map(len, gone)) < last and len(left[-1]) > step:
        place = ("round", name, len(gone))
        found = known.get(place)
        if found is None:
            scores = model.scores(f"{name}, scored again", len(gone), remaining)
            order = left[-1][scores.argsort(descending=name == "most").cpu()]
            found = {"order": order.tolist()}
            known.put(place, found)
        order = torch.tensor(found["order"])
        gone.append(order[:step])
        left.append(order[step:].sort().values)
    return torch.cat([*gone, left[-1]])
