"""Scores and retrained models where the Gram matrix does not fit.

The optimum is found by conjugate gradients in the dual, and found again after each removal from the
one before. Scores are exact linear algebra on the rows of J in a few thousand coordinates
(`lqf.influence.compressed`), with the residuals of those optima.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from lqf.budget import budget, gigabytes
from lqf.checkpoint import Points, state_of
from lqf.curvature.probes import ProbeCount
from lqf.experiments.grid import Point, grid_points
from lqf.experiments.kept_curvature import WORTH
from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Split, Task
from lqf.influence import CompressedRidge, Coordinates
from lqf.linear import Jacobian
from lqf.linear.jacobian import Cotangent
from lqf.losses import error_rate
from lqf.memory import AtOnce
from lqf.solve import KernelPreconditioner, Snapshot, solve_dual_pcg

log = logging.getLogger(__name__)

#: Coordinates of J that scores are computed in, where memory allows.
COORDINATES = 2048

#: Fewer coordinates than these say nothing.
FEWEST = 64

#: Images whose rows are computed at once.
BATCH = 32

#: Random combinations of the outputs of a validation image that F-SI averages over.
PROBES = 16


class LargeModel:
    """The optimum by iteration, and the scores of its samples in few coordinates.

    The ridge constant is the one of ``training.pcg`` with the least validation error.

    Args:
        problem: the linear problem.
        task: its task; F-SI averages over the validation images, errors are those on test.
        training: the section ``training.pcg``.
        seed: of the coordinates and of the combinations of outputs.
        title: tells this model from others of the job.
        coordinates: how many.

    Raises:
        ValueError: if the rows of the training samples do not fit in memory.
    """

    scored_by = "fsi_compressed"
    retrained_by = "pcg"

    def __init__(
        self,
        problem: LinearProblem,
        task: Task,
        training: Mapping[str, Any],
        seed: int,
        title: str,
        coordinates: int = COORDINATES,
    ) -> None:
        self._problem, self._task, self._seed, self._title = problem, task, seed, title
        self._size = _affordable(problem, len(task.val), coordinates)
        self._points = grid_points(problem.method, training)
        self._target = problem.residual_target()
        self._point, self._optimum = self._solved()
        self.mu = len(task.train) * self._point.weight_decay
        log.info("ridge constant by validation error: mu = %.4g", self.mu)
        self._walks: dict[str, tuple[int, Tensor]] = {}

    @property
    def _damping(self) -> float:
        return self._point.damping or self._point.weight_decay

    def _fitted(self, number: int) -> Tensor:
        """The optimum at a grid point.

        Raises:
            TypeError: if the problem is not one of conjugate gradients.
        """
        state = state_of("point", (self._title, "optimum", number))
        delta = self._problem.fit(self._points[number], 0, resume=state).delta
        if delta is None:
            raise TypeError("informative samples are those of a linear problem.")
        return delta

    def _solved(self) -> tuple[Point, Tensor]:
        """The grid point with the least validation error, and its optimum."""
        known, kept = Points(f"{self._title}, ridge constant"), state_of("optimum", self._title)
        best: tuple[float, float, int] | None = None
        found: Tensor | None = None
        for number, point in enumerate(self._points):
            measured = known.get(point)
            delta = None if measured else self._fitted(number)
            if delta is not None:
                outputs, labels = self._outputs(delta, self._task.val), self._task.val.labels
                loss = self._problem.loss.value(outputs, labels).item()
                measured = {"key": [error_rate(outputs, labels), loss, number]}
            key = tuple(measured["key"]) if measured else ()
            if best is None or key < best:
                best, found = key, delta
                if delta is not None:
                    kept.keep(Snapshot({"delta": delta}, {"number": number}))
            if delta is not None and measured is not None:
                known.put(point, measured)
        chosen = 0 if best is None else best[2]
        stored = kept.load() if found is None else None
        if stored is not None and stored.numbers["number"] == chosen:
            found = stored.tensors["delta"].to(self._target)
        return self._points[chosen], self._fitted(chosen) if found is None else found

    def _outputs(self, delta: Tensor, split: Split) -> Tensor:
        jacobian = self._problem.jacobian_of(split)
        return jacobian.base + jacobian.forward(delta)

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor, float]:
        """Rows of J in few coordinates: of training samples, N × C × k, and validation, M × m × k.

        And the mean square of a training row in all others.
        """
        place = self._target.device
        state = state_of("rows", (self._title, self._size))
        stored = state.load()
        if stored is not None:
            train, val = (stored.tensors[name].to(place) for name in ("train", "val"))
            return train, val, float(stored.numbers["missing"])
        factors, eigenvalues = self._problem.factors(self._damping)
        few = Coordinates(factors, self._size, rest="dropped", eigenvalues=eigenvalues)
        network, task = self._problem.network, self._task

        def rows(split: Split, probes: ProbeCount) -> Tensor:
            def some(size: int) -> Tensor:
                return few.rows(network, split.images, probes=probes, batch=size, seed=self._seed)

            return AtOnce(BATCH, "scores").run(some, len(split))

        train = rows(task.train, "all")
        val = rows(task.val, PROBES if task.classes > PROBES else "all")
        missing = few.missing / task.classes
        if state.due(WORTH):
            state.keep(Snapshot({"train": train, "val": val}, {"missing": missing}))
        return train, val, missing

    def ranking(self) -> Tensor:
        """F-SI of every training sample, N."""
        return self._ranking

    @cached_property
    def _ranking(self) -> Tensor:
        return self._ridge.informativeness(self._rows[1], self._residuals)

    @cached_property
    def _ridge(self) -> CompressedRidge:
        train, _, missing = self._rows
        return CompressedRidge(train, self.mu, missing)

    @cached_property
    def _residuals(self) -> Tensor:
        return self._target - self._problem.jacobian.forward(self._optimum)

    def columns(self) -> dict[str, Tensor]:
        """What ``scores.csv`` says of every sample, by column, N each."""
        left_out = self._ridge.leave_one_out(self._residuals)
        outputs = self._problem.jacobian.base + self._target - left_out
        return {
            "fsi_compressed": self._ranking,
            "leverage": self._ridge.leverage().diagonal(dim1=1, dim2=2).mean(1),
            "loo_error": (outputs.argmax(1) != self._task.train.labels).int(),
        }

    def scores(self, walk: str, number: int, kept: Callable[[int], Tensor]) -> Tensor:
        """F-SI of the samples in ``kept(number)`` in the model trained on them."""
        delta = self._retrained(walk, number, kept)
        chosen = kept(number).to(self._target.device)
        residuals = self._target[chosen] - self._problem.jacobian.forward(delta, chosen)
        train, val, missing = self._rows
        return CompressedRidge(train[chosen], self.mu, missing).informativeness(val, residuals)

    def error(self, walk: str, number: int, kept: Callable[[int], Tensor]) -> float:
        """Test error in % of the model trained on the samples in ``kept(number)``."""
        delta = self._retrained(walk, number, kept)
        return error_rate(self._outputs(delta, self._task.test), self._task.test.labels)

    def _retrained(self, walk: str, number: int, kept: Callable[[int], Tensor]) -> Tensor:
        """The optimum of the samples in ``kept(number)``, from those of the numbers before."""
        title = f"{self._title}, {walk}"
        warm = state_of("warm_start", title)
        at, delta = self._walks.get(walk, (-1, self._optimum))
        stored = warm.load() if at < 0 < number else None
        if stored is not None and stored.numbers["at"] <= number:
            at, delta = stored.numbers["at"], stored.tensors["delta"].to(self._target)
        for each in range(at + 1, number + 1):
            chosen = kept(each).to(self._target.device)
            state = state_of("point", (title, each))
            left = self._target - self._problem.jacobian.forward(delta)
            delta = solve_dual_pcg(
                _Subset(self._problem.jacobian, chosen),
                self._target[chosen],
                self.mu / len(chosen),
                preconditioner=KernelPreconditioner(self._rows[0][chosen], self.mu, self._rows[2]),
                tolerance=self._point.tolerance,
                max_passes=self._point.max_passes,
                start=(left / self.mu)[chosen],  # at an optimum r = μa
                resume=state,
            ).delta
            warm.keep(Snapshot({"delta": delta}, {"at": each}))
            state.forget()
        self._walks = {walk: (number, delta)}
        return delta


class _Subset:
    """The Jacobian of some of the samples."""

    def __init__(self, jacobian: Jacobian, chosen: Tensor) -> None:
        self._jacobian, self._chosen = jacobian, chosen
        self.samples, self.outputs, self.size = len(chosen), jacobian.outputs, jacobian.size
        self.base = jacobian.base[chosen]

    def _index(self, index: Tensor | None) -> Tensor:
        return self._chosen if index is None else self._chosen[index]

    def forward(self, delta: Tensor, index: Tensor | None = None) -> Tensor:
        return self._jacobian.forward(delta, self._index(index))

    def pull(self, cotangent: Tensor, index: Tensor | None = None) -> Tensor:
        return self._jacobian.pull(cotangent, self._index(index))

    def pass_(
        self, delta: Tensor, cotangent: Cotangent, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._jacobian.pass_(delta, cotangent, self._index(index))


def _affordable(problem: LinearProblem, validation: int, coordinates: int) -> int:
    """How many coordinates the rows of all samples can have.

    Raises:
        ValueError: if they are too few to say anything.
    """
    jacobian = problem.jacobian
    C, item = jacobian.outputs, jacobian.base.element_size()
    allowed = budget(jacobian.base.device)
    # The rows, those of the samples that are left after a removal, and those of validation.
    each = item * (2 * jacobian.samples * C + validation * min(PROBES, C))
    size = coordinates
    while size >= FEWEST and size * each + 3 * 8 * size**2 > allowed:
        size //= 2
    if size < min(FEWEST, coordinates):
        raise ValueError(
            f"{jacobian.samples} samples × {C} classes are too many to score: {FEWEST} coordinates "
            f"of their Jacobian take {gigabytes(FEWEST * each)} of {gigabytes(allowed)}; lower "
            "train_per_class for this experiment."
        )
    if size < coordinates:
        log.info("scores take %d coordinates instead of %d, by memory", size, coordinates)
    return size
