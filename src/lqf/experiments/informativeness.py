"""Informative samples and what removing them costs (Figure 6, LQF §4.6), all of it exact.

Scores and retrained models come from the dual solution, so a removal curve costs no training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lqf.experiments.kernel import Kernel
from lqf.experiments.problem import LinearProblem
from lqf.experiments.rows import Row
from lqf.experiments.task import Settings, Split, load_task
from lqf.experiments.train import problem_of
from lqf.influence import (
    DualRidge,
    fsi_eq8,
    fsi_kfac,
    functional_sample_information,
    leave_one_out_outputs,
)
from lqf.influence.dual import sample_rows
from lqf.losses import error_rate
from lqf.method import get
from lqf.run import progress
from lqf.solve import RidgePath

log = logging.getLogger(__name__)

SCORE_COLUMNS = (  # noqa: SIM905  (reads better as words)
    "index row label class fsi_exact fsi_eq8 fsi_kfac leverage loo_error mu weight_decay n_train"
).split()
REMOVAL_COLUMNS = ["removal", "schedule", "n_removed", "n_train", "test_err", "mu", "seed"]

#: Part of the training set that each round of the iterative schedule removes.
ROUND = 0.05


class _Removal:
    """Retraining without some samples, at the ridge constant of the full problem."""

    def __init__(self, kernel: Kernel, cross: Tensor, mu: float, test: _Evaluated) -> None:
        self.kernel, self.cross, self.mu, self._test = kernel, cross, mu, test
        self.samples, self.outputs = kernel.target.shape

    def _part(self, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gram matrix, its columns' positions and targets of the samples in ``kept``."""
        rows = sample_rows(kept, self.outputs)
        return self.kernel.gram[rows][:, rows], rows, self.kernel.target[kept]

    def scores(self, kept: Tensor) -> Tensor:
        """F-SI of the samples in ``kept`` in the model trained on them."""
        gram, rows, target = self._part(kept)
        return functional_sample_information(gram, self.cross[:, rows], target, self.mu)

    def error(self, kept: Tensor) -> float:
        """Test error in % of the model trained on the samples in ``kept``."""
        gram, _, target = self._part(kept)
        coefficients = torch.zeros_like(self.kernel.target)
        coefficients[kept] = DualRidge(gram, target, self.mu).coefficients
        return self._test.error(coefficients)


class _Evaluated:
    """The test split, under the model of any dual coefficients."""

    def __init__(self, problem: LinearProblem, split: Split) -> None:
        self._problem, self._labels = problem, split.labels
        self._jacobian = problem.jacobian_of(split)

    def error(self, coefficients: Tensor) -> float:
        """Test error in % of the model ``δ = Jᵀa`` for the coefficients a (N × C)."""
        delta = self._problem.jacobian.pull(coefficients.to(self._jacobian.base.dtype))
        return error_rate(self._jacobian.base + self._jacobian.forward(delta), self._labels)


def informativeness(
    dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> tuple[list[Row], list[Row]]:
    """Score every training sample of the exact LQF model, and remove samples by score.

    The ridge constant is chosen by leave-one-out on the training samples; F-SI averages over the
    validation images (labels unused); curves show the test error.

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
    experiment = settings["experiment"]
    task = load_task(data, dataset, settings["train_per_class"], settings)
    problem = problem_of(method, task, weights, settings, seed)
    if not isinstance(problem, LinearProblem):
        raise TypeError("informative samples are defined for linear problems.")
    rounds = [r for r in experiment["removals"] if r < len(task.train) - task.classes]
    with progress(4 + 5, f"informativeness {dataset} seed {seed}", "part") as bar:
        kernel = Kernel.of(problem)
        choice = RidgePath(kernel.gram, kernel.target).choose()
        mu = choice.mu
        bar.update()
        cross = kernel.cross(task.val)
        test = _Evaluated(problem, task.test)
        bar.update()
        log.info("ridge constant by leave-one-out: mu = %.4g", mu)
        exact = functional_sample_information(kernel.gram, cross, kernel.target, mu)
        printed = fsi_eq8(kernel.gram, cross, kernel.target, mu)
        bar.update()
        solution = DualRidge(kernel.gram, kernel.target, mu)
        residuals = solution.residuals()
        decay = mu / len(task.train)
        approximate = fsi_kfac(
            problem.jacobian,
            problem.preconditioner(decay),
            residuals.to(problem.jacobian.base.dtype),
            problem.jacobian_of(task.val),
        )
        bar.update()
        leverage = solution.leverage().diagonal(dim1=1, dim2=2).mean(1)
        labels = task.train.labels
        base = problem.jacobian.base.double()
        outputs = base + leave_one_out_outputs(kernel.gram, kernel.target, mu)
        wrong = outputs.argmax(1) != labels
        scores = [
            {
                "index": n,
                "row": int(task.train.rows[n]),
                "label": int(labels[n]),
                "class": task.class_names[int(labels[n])],
                "fsi_exact": float(exact[n]),
                "fsi_eq8": float(printed[n]),
                "fsi_kfac": float(approximate[n]),
                "leverage": float(leverage[n]),
                "loo_error": int(wrong[n]),
                "mu": mu,
                "weight_decay": decay,
                "n_train": len(labels),
            }
            for n in range(len(labels))
        ]
        removal = _Removal(kernel, cross, mu, test)
        curves: list[Row] = []
        for name, schedule, order in _orders(removal, exact, seed, max(rounds)):
            for count in rounds:
                kept = order[count:].sort().values
                curves.append(
                    {
                        "removal": name,
                        "schedule": schedule,
                        "n_removed": count,
                        "n_train": len(kept),
                        "test_err": removal.error(kept),
                        "mu": mu,
                        "seed": seed,
                    }
                )
            bar.update()
    return scores, curves


def _orders(
    removal: _Removal, scores: Tensor, seed: int, last: int
) -> list[tuple[str, str, Tensor]]:
    """Every order of removal: by score once, by score again after each round, and at random."""
    samples = removal.samples
    generator = torch.Generator().manual_seed(seed)
    return [
        ("most", "one_shot", scores.argsort(descending=True)),
        ("least", "one_shot", scores.argsort()),
        ("most", "iterative", _iterated(removal, last, lambda s: s.argsort(descending=True))),
        ("least", "iterative", _iterated(removal, last, lambda s: s.argsort())),
        ("random", "one_shot", torch.randperm(samples, generator=generator)),
    ]


def _iterated(removal: _Removal, last: int, rank: Callable[[Tensor], Tensor]) -> Tensor:
    """The order in which samples leave if the rest is scored again after every 5 % removed."""
    kept = torch.arange(removal.samples)
    gone: list[Tensor] = []
    step = max(1, round(ROUND * removal.samples))
    while sum(map(len, gone)) < last and len(kept) > step:
        ranked = kept[rank(removal.scores(kept))]
        gone.append(ranked[:step])
        kept = ranked[step:].sort().values
    return torch.cat([*gone, kept])
