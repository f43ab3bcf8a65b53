"""The exact optimum of LQF on one task: the estimator's engine, on the workflow's tasks."""

from __future__ import annotations

import logging
from copy import copy
from functools import partial

import torch
from torch import Tensor, nn

from lqf.compute import Compute
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear import COMPUTE, OnEpoch
from lqf.experiments.task import Split, Task
from lqf.jacobian import Images, Linearized
from lqf.losses import SquaredLoss, error_rate
from lqf.method import Method
from lqf.networks import Classifier, fold_batch_norm
from lqf.optimum import Optimum, Problem, fit
from lqf.ridge import Resume

log = logging.getLogger(__name__)


class ExactProblem:
    """The head of a network, or all parameters of its first-order expansion, at their optimum.

    Everything that has to be chosen is chosen by leave-one-out on the training samples: no validation
    image is used.  The outputs of the random head at w0 are left out, as in `lqf.LQF`.

    Args:
        method: a method with ``exact`` true.
        network: the network at w0.
        task: the task.
        target_scale: α.
        fold: fold batch norm into the convolutions before linearising.
        compute: how many images run at once.
    """

    def __init__(
        self,
        method: Method,
        network: Classifier,
        task: Task,
        target_scale: float,
        fold: bool,
        compute: Compute = COMPUTE,
    ) -> None:
        self.method, self.train = method, task.train
        self.loss = SquaredLoss(target_scale, task.classes)
        self._at_once = compute.at_once(network, task.train.images[:1], "a pass of the network")
        self._embed = None if method.trained != "head" else network.embed
        self.network: nn.Module = network.head
        if self._embed is None:
            self.network = fold_batch_norm(network) if fold else network
        self.linearized = Linearized(self.network)
        prefix = "" if self._embed is not None else "head."
        self._head = frozenset(n for n in self.linearized.layout.names if n.startswith(prefix))
        self._lender: ExactProblem | None = None
        self._found: dict[tuple[Point, int], Optimum] = {}

    def inputs(self, split: Split) -> Images:
        """What the trained part of the network sees: images, or features for heads."""
        embed = self._embed
        if embed is None:
            return split.images

        def features(size: int) -> Tensor:
            return torch.cat([embed(part) for part in split.images.split(size)])

        with torch.no_grad():
            return self._at_once.run(features, len(split))

    def first(self, count: int) -> ExactProblem:
        """The problem of the first ``count`` training samples."""
        smaller = copy(self)
        smaller._found = {}
        smaller.train = self.train.take(count)
        return smaller

    def forget_curvature(self) -> None:
        """Estimate the curvature and choose the constants on this problem's own samples."""
        self._lender = None

    def share_curvature(self, other: ExactProblem) -> None:
        """Use the curvature and the constants of the optimum of another problem of the same network."""
        self._lender = other

    def rate(self, point: Point) -> float | None:
        """There is no learning rate."""
        return None

    def optimum(self, point: Point, seed: int, resume: Resume | None = None) -> Optimum:
        """The optimum, which everything about samples can be asked of."""
        if (point, seed) in self._found:
            return self._found[point, seed]
        if self._lender is None:
            found = fit(self._posed(point, seed, None, resume))
        else:
            known = self._lender.optimum(point, seed)
            constants = known.metric.epsilon, known.metric.head_scale
            problem = self._posed(point, seed, known.mu, resume)
            found = fit(problem, known.curvature, constants=constants)
        self._found[point, seed] = found
        return found

    def _posed(self, point: Point, seed: int, mu: float | None, resume: Resume | None) -> Problem:
        inputs = self.inputs(self.train)
        target = self.loss.targets(self.train.labels, inputs.dtype)
        return Problem(
            self.linearized,
            inputs,
            target.to(inputs.device),
            head=self._head,
            metric="curvature" if self.method.optimizer == "exact" else "euclidean",
            mu=mu,
            tolerance=point.tolerance,
            max_passes=point.max_passes,
            seed=seed,
            batch=self._at_once,
            resume=resume,
        )

    def fit(
        self,
        point: Point,
        seed: int,
        on_epoch: OnEpoch | None = None,
        start: Tensor | None = None,
        resume: Resume | None = None,
    ) -> Fit:
        """The optimum at the constants that leave-one-out chooses; there are no epochs and no start."""
        optimum = self.optimum(point, seed, resume)
        outputs = partial(self.outputs, optimum)
        certificate, choice = optimum.certificate, optimum.choice
        loss = self.loss.value(outputs(self.train), self.train.labels).item()
        chosen = {
            "loo_err": error_rate(left_out(optimum), self.train.labels),
            "mu": optimum.mu,
            "weight_decay": optimum.mu / len(self.train),
            "epsilon": optimum.metric.epsilon,
            "head_scale": optimum.metric.head_scale,
            "chosen_at_edge": "; ".join(choice.at_edge) if choice is not None else "",
            "gap": certificate.gap,
        }
        return Fit(
            outputs,
            loss,
            None,
            certificate.passes,
            certificate.residual,
            delta=optimum.delta,
            chosen=chosen,
        )

    def outputs(self, optimum: Optimum, split: Split) -> Tensor:
        """Outputs of an optimum of this problem, M × C."""
        return optimum.problem.jacobian_of(self.inputs(split)).forward(optimum.delta)


def left_out(optimum: Optimum) -> Tensor:
    """Outputs of every training sample under the optimum without it, N × C, float64."""
    return optimum.problem.target.double() - optimum.leave_one_out().residuals
