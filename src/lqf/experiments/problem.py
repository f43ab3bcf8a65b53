"""One method's fine-tuning problem on one task: set up once, solved at many grid points."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lqf.compute import Compute
from lqf.curvature import Curvature, Metric, SampleGradients, estimate, jacobian
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.fit import DIVERGED, Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear import COMPUTE, OnEpoch
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.task import Split, Task, views_of
from lqf.jacobian import (
    AugmentedFeatureJacobian,
    AugmentedNetworkJacobian,
    DenseJacobian,
    FeatureJacobian,
    Images,
    Jacobian,
    Layout,
    Linearized,
    NetworkJacobian,
    RowSpace,
)
from lqf.losses import make_loss
from lqf.memory import AtOnce
from lqf.method import Method
from lqf.networks import Classifier, fold_batch_norm
from lqf.ridge import (
    Diverged,
    Resume,
    Solution,
    solve_sgd,
    stable_rate,
)

#: Largest Jacobian that is held in memory; beyond it, every product is a pass of the network.
DENSE_BYTES = 1_200_000_000

#: Rows of J up to which it is said how much of δ lies in their span, where that needs their kernel.
SPANNED = 1024

#: Images that the curvature sees at once, at most.
CURVATURE_BATCH = 64


class LinearProblem:
    """The head of a network, or all parameters of its first-order expansion, trained by a gradient method.

    The Jacobian is held in memory where it fits, else it is implicit in the network.  Plain SGD
    then runs in the row space of J, which changes nothing but its cost.  The curvature
    is that of w0, computed once, with eigenvalue correction (EKFAC: George et al. 2018, whose
    implementation the paper used).

    Args:
        method: a method with ``trained`` = ``linearized`` or ``head``.
        network: the network at w0.
        task: the task.
        target_scale: α, for the squared loss.
        fold: fold batch norm into the convolutions before linearising.
        compute: precision, and how many images run at once.
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
        self.method = method
        self._compute = compute
        self.train = task.train
        self.loss = make_loss(method.loss, target_scale, task.classes)
        images = task.train.images
        self._at_once = compute.at_once(network, images[:1], "a pass of the network")
        self.jacobian: Jacobian
        if method.trained == "head":
            self.network: nn.Module = network.head
            self._embed = network.embed
            with torch.no_grad():
                features = self._features(task.train)
                self.jacobian = FeatureJacobian(features, network.head(features))
            self.layout = Layout.of(network.head.named_parameters())
        else:
            self.network = fold_batch_norm(network) if fold else network
            linearized = Linearized(self.network)
            self.layout = linearized.layout
            implicit = NetworkJacobian(linearized, images, self._at_once)
            size = implicit.samples * implicit.outputs * implicit.size * images.dtype.itemsize
            if size <= DENSE_BYTES:
                rows = jacobian(SampleGradients(linearized, images), images)
                self.jacobian = DenseJacobian(rows, implicit.base)
            else:
                self.jacobian = implicit
        self._forget_derived()

    def _forget_derived(self) -> None:
        """Drop everything computed from the training samples."""
        self._curvature: Curvature | None = None
        self._lender: LinearProblem | None = None
        self._units: dict[tuple[float | None, float], float] = {}
        self._rows: RowSpace | None = None
        self._start: float | None = None
        self._others: dict[int, tuple[Split, Jacobian]] = {}

    def _inputs(self, split: Split) -> Images:
        """What the trained part of the network sees: images, or features for heads."""
        return split.images if self.method.trained != "head" else self._features(split)

    def _features(self, split: Split) -> Tensor:
        def features(size: int) -> Tensor:
            return torch.cat([self._embed(part) for part in split.images.split(size)])

        with torch.no_grad():
            return self._at_once.run(features, len(split))

    def jacobian_of(self, split: Split) -> Jacobian:
        """The implicit Jacobian of another split; computed once for each."""
        if id(split) not in self._others:
            jacobian: Jacobian
            if self.method.trained == "head":
                features = self._features(split)
                with torch.no_grad():
                    jacobian = FeatureJacobian(features, self.network(features))
            else:
                jacobian = NetworkJacobian(Linearized(self.network), split.images, self._at_once)
            self._others[id(split)] = (split, jacobian)
        return self._others[id(split)][1]

    def first(self, count: int) -> LinearProblem:
        """The problem of the first ``count`` training samples; its curvature is this one's."""
        smaller = copy(self)
        smaller._forget_derived()
        smaller._others = self._others
        smaller._curvature = self._curvature
        smaller.train = self.train.take(count)
        if isinstance(self.jacobian, DenseJacobian):
            matrix, base = self.jacobian.matrix[:count], self.jacobian.base[:count]
            smaller.jacobian = DenseJacobian(matrix, base)
        elif isinstance(self.jacobian, FeatureJacobian):
            features, base = self.jacobian.features[:count], self.jacobian.base[:count]
            smaller.jacobian = FeatureJacobian(features, base)
        else:
            smaller.jacobian = self.jacobian_of(smaller.train)
        return smaller

    def forget_curvature(self) -> None:
        """Compute the curvature anew, from this problem's own samples, when it is next needed."""
        self._curvature, self._units = None, {}
        self._lender = None

    def share_curvature(self, other: LinearProblem) -> None:
        """Use the factors of another problem of the same network; rates stay this one's own."""
        self._lender = other

    def preconditioner(self, damping: float) -> Metric:
        """The metric ``F + damping·mean(F)·I`` at w0 (LQF §3.2); F is estimated once."""
        if self._lender is not None:
            return self._lender.preconditioner(damping)
        if self._curvature is None:
            network, inputs = self.network, self._inputs(self.train)
            if self._compute.curvature == "fp64":
                network, inputs = deepcopy(network).double(), inputs[:].double()
            samples = SampleGradients(Linearized(network), inputs)
            at_once = AtOnce(min(CURVATURE_BATCH, self._at_once.size), "the curvature")
            self._curvature = estimate(samples, inputs, batch=at_once)
        return Metric(self._curvature, self.layout, damping * self._curvature.mean)

    def rate(self, point: Point) -> float | None:
        """The learning rate of a grid point.

        A relative rate is in units of 1/λ, where λ bounds the curvature that a step can meet:
        the largest eigenvalue of P(G_B + wd·I) over the mini-batches B of an epoch, times the largest
        curvature of the loss in the outputs (1 for the squared loss, ½ for cross-entropy).
        """
        if point.rate is None or not point.relative:
            return point.rate
        key = (point.damping, point.weight_decay)
        if key not in self._units:
            preconditioner = None if point.damping is None else self.preconditioner(point.damping)
            unit = stable_rate(
                self.jacobian, point.weight_decay, preconditioner, iterations=10, batch=point.batch
            )
            self._units[key] = unit * (1.0 if self.method.loss == "mse" else 2.0)
        return point.rate * self._units[key]

    def fit(
        self,
        point: Point,
        seed: int,
        on_epoch: OnEpoch | None = None,
        start: Tensor | None = None,
        resume: Resume | None = None,
    ) -> Fit:
        """Solve at one grid point, from δ = 0 or from ``start``; ``resume`` keeps the state.

        Raises:
            Diverged: if the loss is not finite, or ends far above where it started.
        """
        solution = self._solve(point, seed, on_epoch, start, resume)
        before = self.loss.value(self.jacobian.base, self.train.labels).item()
        if not solution.loss <= DIVERGED * before:
            raise Diverged(solution.epochs, self.rate(point), solution.loss)

        def outputs(split: Split) -> Tensor:
            jacobian = self.jacobian if split is self.train else self.jacobian_of(split)
            return jacobian.base + jacobian.forward(solution.delta)

        return Fit(
            outputs,
            solution.loss,
            solution.epochs,
            solution.epochs + 0.5,
            self._residual(solution.delta, point.weight_decay),
            delta=solution.delta,
            chosen={"row_space": self._row_space(solution.delta)},
        )

    def _residual(self, delta: Tensor, weight_decay: float) -> float:
        """The norm of the objective's gradient at δ over that at 0: how far SGD is from the optimum."""
        if self._start is None:
            self._start = float(self._gradient(torch.zeros_like(delta)).norm())
        gradient = self._gradient(delta).add_(delta, alpha=weight_decay)
        return float(gradient.norm()) / self._start

    def _gradient(self, delta: Tensor) -> Tensor:
        base, labels = self.jacobian.base, self.train.labels

        def slope(change: Tensor, rows: slice) -> Tensor:
            return self.loss.cotangent(base[rows] + change, labels[rows]) / len(base)

        return self.jacobian.pass_(delta, slope)[1]

    def _row_space(self, delta: Tensor) -> float | None:
        """Share of ‖δ‖² in the row space of J, where J is held and has few rows."""
        if not isinstance(self.jacobian, DenseJacobian):
            return None
        if self._rows is None and self.jacobian.base.numel() <= SPANNED:
            self._rows = RowSpace(self.jacobian)
        return None if self._rows is None else self._rows.share(delta)

    def _solve(
        self,
        point: Point,
        seed: int,
        on_epoch: OnEpoch | None,
        start: Tensor | None,
        resume: Resume | None,
    ) -> Solution:
        rate = self.rate(point)
        if rate is None or point.batch is None or point.epochs is None:
            raise ValueError(f"training.{self.method.training} needs rates, batch and epochs.")
        jacobian, preconditioner, lift = self.jacobian, None, None
        if self.method.optimizer == "kfac_sgd":
            if point.damping is None:
                raise ValueError("training.kfac_sgd needs damping.")
            preconditioner = self.preconditioner(point.damping)
        augmented = self._augmented(seed) if point.augment else None
        if augmented is not None:
            jacobian = augmented
        elif preconditioner is None and isinstance(jacobian, DenseJacobian) and start is None:
            if self._rows is None:
                self._rows = RowSpace(jacobian)
            jacobian, lift = self._rows.jacobian, self._rows.lift

        def after_epoch(epoch: int, delta: Tensor, loss: float) -> bool:
            if on_epoch is None:
                return False
            return on_epoch(epoch, loss, lambda: jacobian.base + jacobian.forward(delta))

        solution = solve_sgd(
            jacobian,
            self.loss,
            self.train.labels,
            weight_decay=point.weight_decay,
            rate=rate,
            epochs=point.epochs,
            momentum=point.momentum or 0.0,
            batch=point.batch,
            milestones=point.milestones,
            decay=point.decay,
            seed=seed,
            preconditioner=preconditioner,
            start=start,
            on_epoch=after_epoch,
            before_epoch=None if augmented is None else augmented.draw,
            resume=resume,
        )
        return solution if lift is None else replace(solution, delta=lift(solution.delta))

    def _augmented(self, seed: int) -> AugmentedFeatureJacobian | AugmentedNetworkJacobian:
        """The Jacobian of the training samples that shows a solver another view each epoch."""
        views = views_of(self.train.images, seed)
        if isinstance(self.jacobian, FeatureJacobian):
            return AugmentedFeatureJacobian(
                self.jacobian, self._embed, self.network, views, self._at_once
            )
        return AugmentedNetworkJacobian(
            Linearized(self.network), self.train.images, views, self._at_once
        )


Problem = NonlinearProblem | LinearProblem | ExactProblem


def make_problem(
    method: Method,
    network: Classifier,
    task: Task,
    target_scale: float,
    fold: bool,
    compute: Compute = COMPUTE,
) -> Problem:
    """The problem a method poses on a task."""
    if method.trained == "all":
        return NonlinearProblem(method, network, task, target_scale, compute)
    if method.exact:
        return ExactProblem(method, network, task, target_scale, fold, compute)
    return LinearProblem(method, network, task, target_scale, fold, compute)
