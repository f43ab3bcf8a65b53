"""Ordinary fine-tuning of all weights: the baseline NLFT, and the pre-training of the demo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from lqf.losses import Loss
from lqf.networks import freeze_batch_norm
from lqf.solve import Diverged

#: Called after each epoch with its number (from 1), its mean training loss and a function that
#: returns the outputs on the training samples (N × C); True stops the training.
OnEpoch = Callable[[int, float, Callable[[], Tensor]], bool]


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum and a step schedule.

    Args:
        rate: learning rate.
        weight_decay: coupled decay towards zero, as ``torch.optim.SGD`` has it.
        batch: samples a step.
        epochs: passes over the data.
        momentum: heavy-ball momentum.
        milestones: fractions of the epochs at which the rate is multiplied by ``decay``.
        decay: the factor.
        batch_norm: ``train`` (batch statistics) or ``frozen`` (pre-trained statistics).
    """

    rate: float
    weight_decay: float
    batch: int
    epochs: int
    momentum: float = 0.9
    milestones: tuple[float, ...] = (0.5, 0.8)
    decay: float = 0.1
    batch_norm: str = "train"


def outputs_of(network: nn.Module, images: Tensor, batch: int = 256) -> Tensor:
    """The network's outputs in evaluation mode, N × C."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(batch)])


def train_network(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> int:
    """Train ``network`` in place.

    Args:
        network: maps N × 3 × H × W to N × C.
        images: training images.
        labels: their labels, N.
        loss: the loss.
        schedule: rate, decay, batch, epochs.
        seed: order of the samples.
        on_epoch: called after each epoch; True stops.

    Returns:
        The number of epochs done.

    Raises:
        Diverged: when the loss is no longer finite.
    """
    if schedule.batch_norm == "frozen":
        freeze_batch_norm(network)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=schedule.rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    steps = sorted({max(1, round(m * schedule.epochs)) for m in schedule.milestones})
    scheduler = MultiStepLR(optimizer, steps, schedule.decay)
    generator = torch.Generator().manual_seed(seed)
    last = float("nan")
    for epoch in range(1, schedule.epochs + 1):
        network.train()
        total = 0.0
        # Nearly equal batches: a short last one would have poor batch statistics.
        order = torch.randperm(len(labels), generator=generator)
        for index in order.tensor_split(math.ceil(len(labels) / schedule.batch)):
            optimizer.zero_grad(set_to_none=True)
            value = loss.value(network(images[index]), labels[index])
            value.backward()
            optimizer.step()
            total += value.item() * len(index)
        if not torch.isfinite(torch.tensor(total)):
            raise Diverged(epoch=epoch, rate=schedule.rate, last_loss=last)
        last = total / len(labels)
        scheduler.step()
        if on_epoch is not None and on_epoch(epoch, last, lambda: outputs_of(network, images)):
            return epoch
    return schedule.epochs


def schedules(grid: Mapping[str, Any]) -> list[Schedule]:
    """Every point of a ``training.nonlinear`` grid."""
    return [
        Schedule(
            rate,
            decay,
            grid["batch"],
            grid["epochs"],
            grid["momentum"],
            tuple(grid["milestones"]),
            grid["decay"],
            mode,
        )
        for mode in grid["batch_norm"]
        for decay in grid["weight_decays"]
        for rate in grid["rates"]
    ]
