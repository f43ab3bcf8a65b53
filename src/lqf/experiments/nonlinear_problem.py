"""Fine-tuning all weights of the network itself, on one task."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lqf.compute import Compute
from lqf.experiments.fit import DIVERGED, Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear import (
    COMPUTE,
    OnEpoch,
    Schedule,
    fit_head,
    outputs_of,
    train_network,
)
from lqf.experiments.task import Split, Task
from lqf.losses import CrossEntropy, make_loss
from lqf.method import Method
from lqf.networks import Classifier
from lqf.ridge import Diverged, Resume


class NonlinearProblem:
    """All weights of the network itself.

    Args:
        method: a method with ``trained = all``.
        network: the network at w0; every fit starts from a copy of it.
        task: the task.
        target_scale: α, for the squared loss.
        compute: precision, and how many images run at once.
    """

    def __init__(
        self,
        method: Method,
        network: Classifier,
        task: Task,
        target_scale: float,
        compute: Compute = COMPUTE,
    ) -> None:
        self.network = network
        self._task = task
        self._compute = compute
        self._at_once = compute.at_once(network, task.train.images[:1], "evaluation")
        self._loss = make_loss(method.loss, target_scale, task.classes)
        self._regularizer = method.regularizer

    def fit(
        self,
        point: Point,
        seed: int,
        on_epoch: OnEpoch | None = None,
        start: nn.Module | None = None,
        resume: Resume | None = None,
    ) -> Fit:
        """Train a copy of the network, or of ``start``; ``resume`` keeps the state under way.

        Raises:
            ValueError: if the grid point lacks rate, batch or epochs.
            Diverged: if the loss is not finite, or ends far above where it started.
        """
        if point.rate is None or point.batch is None or point.epochs is None:
            raise ValueError("a non-linear fit needs rate, batch and epochs in training.nonlinear.")
        network = deepcopy(self.network if start is None else start)
        if point.optimizer == "lp_ft" and isinstance(network, Classifier):
            self._fit_head(network, point)
        loss = CrossEntropy(point.label_smoothing) if point.label_smoothing else self._loss
        schedule = Schedule(
            point.rate,
            point.weight_decay,
            point.batch,
            point.epochs,
            point.momentum or 0.0,
            point.milestones,
            point.decay,
            point.batch_norm,
            point.augment,
            point.optimizer,
            self._regularizer,
        )
        train = self._task.train
        epochs = train_network(
            network,
            train.images,
            train.labels,
            loss,
            schedule,
            seed,
            on_epoch,
            resume,
            self._compute,
        )
        train_loss = self._loss.value(self._outputs(network, train), train.labels).item()
        before = self._loss.value(self._outputs(self.network, train), train.labels).item()
        if not train_loss <= DIVERGED * before:
            raise Diverged(epochs, point.rate, train_loss)
        return Fit(
            lambda split: self._outputs(network, split),
            train_loss,
            epochs,
            float(epochs),
            network=network,
        )

    def _fit_head(self, network: Classifier, point: Point) -> None:
        """The head's optimum on the features of the training images, in evaluation mode."""
        train = self._task.train

        def features(size: int) -> Tensor:
            return torch.cat([network.embed(part) for part in train.images.split(size)])

        network.eval()
        with torch.no_grad():
            found = self._at_once.run(features, len(train))
        fit_head(network, found, train.labels, point.weight_decay)

    def _outputs(self, network: nn.Module, split: Split) -> Tensor:
        return outputs_of(network, split.images, self._compute, self._at_once)

    def rate(self, point: Point) -> float | None:
        """The learning rate of a grid point."""
        return point.rate

    def first(self, count: int) -> NonlinearProblem:
        """The problem of the first ``count`` training samples."""
        smaller = copy(self)
        smaller._task = replace(self._task, train=self._task.train.take(count))
        return smaller
