"""Ordinary fine-tuning of all weights: the baseline NLFT, and the pre-training of the demo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR

from lqf.compute import Compute
from lqf.experiments.regularizers import make_regularizer
from lqf.experiments.step import Gradient, outputs_in
from lqf.experiments.task import views_of
from lqf.jacobian import Images
from lqf.losses import Loss
from lqf.memory import AtOnce
from lqf.networks import Classifier, freeze_batch_norm
from lqf.ridge import Diverged, Resume, Snapshot

#: Called after each epoch with its number (from 1), its mean training loss and a function that
#: returns the outputs on the training samples (N × C); True stops the training.
OnEpoch = Callable[[int, float, Callable[[], Tensor]], bool]

#: Full precision on a CPU; what a configuration that says nothing means.
COMPUTE = Compute()


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum or AdamW, and a step schedule.

    Args:
        rate: learning rate.
        weight_decay: decay towards zero: coupled, as ``torch.optim.SGD`` has it, or AdamW's.
        batch: samples a step.
        epochs: passes over the data.
        momentum: heavy-ball momentum.
        milestones: fractions of the epochs at which the rate is multiplied by ``decay``.
        decay: the factor.
        batch_norm: ``train`` (batch statistics) or ``frozen`` (pre-trained statistics).
        augment: a random crop and flip of every image in every epoch.
        optimizer: ``sgd``, ``adamw``, or ``lp_ft``, which is SGD once the head is trained.
        regularizer: see `lqf.experiments.regularizers`.
    """

    rate: float
    weight_decay: float
    batch: int
    epochs: int
    momentum: float = 0.9
    milestones: tuple[float, ...] = (0.5, 0.8)
    decay: float = 0.1
    batch_norm: str = "train"
    augment: bool = False
    optimizer: str = "sgd"
    regularizer: str = "none"


def outputs_of(
    network: nn.Module, images: Images, compute: Compute = COMPUTE, batch: int | AtOnce = 256
) -> Tensor:
    """The network's outputs in evaluation mode, N × C."""
    network.eval()
    mixed = compute.mixed(next(network.parameters()).device)
    at_once = AtOnce(batch, "evaluation") if isinstance(batch, int) else batch

    def outputs(size: int) -> Tensor:
        return torch.cat([outputs_in(mixed, network, part) for part in images.split(size)])

    with torch.no_grad():
        return at_once.run(outputs, len(images))


def train_network(
    network: nn.Module,
    images: Images,
    labels: Tensor,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
    compute: Compute = COMPUTE,
) -> int:
    """Train ``network`` in place.

    Args:
        network: maps N × 3 × H × W to N × C.
        images: training images; a `Feed` where they are augmented.
        labels: their labels, N.
        loss: the loss.
        schedule: rate, decay, batch, epochs.
        seed: order of the samples.
        on_epoch: called after each epoch; True stops.
        resume: keeps the state after a step; a run that goes on from it ends with the same bits.
        compute: precision.

    Returns:
        The number of epochs done.

    Raises:
        Diverged: when the loss is no longer finite.
    """
    views = views_of(images, seed) if schedule.augment else None
    regularizer = make_regularizer(
        schedule.regularizer, labels, loss, network, schedule.weight_decay, schedule.epochs
    )
    gradient = Gradient(network, regularizer, schedule.batch, compute)
    if schedule.batch_norm == "frozen":
        freeze_batch_norm(network)
    optimizer = _optimizer(network, schedule, 0.0 if regularizer.decays else schedule.weight_decay)
    bounds = sorted({max(1, round(m * schedule.epochs)) for m in schedule.milestones})
    scheduler = MultiStepLR(optimizer, bounds, schedule.decay)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout, where a network has it
    last = float("nan")
    first, done, total = 1, 0, 0.0

    def snapshot() -> Snapshot:
        numbers = {"epoch": epoch, "done": done, "total": total, "last": last}
        tensors = {"order": drawn_by, **_training_state(network, optimizer)}
        tensors |= {f"regularizer/{name}": held for name, held in regularizer.state().items()}
        return Snapshot(tensors, {**numbers, "rate": optimizer.param_groups[0]["lr"]})

    if resume is not None and (known := resume.load()) is not None:
        _restore_training(network, optimizer, known.tensors)
        generator.set_state(known.tensors["order"])
        first, done, total, last, rate = (
            known.numbers[name] for name in ("epoch", "done", "total", "last", "rate")
        )
        optimizer.param_groups[0]["lr"], scheduler.last_epoch = rate, first - 1
        regularizer.restore(_under("regularizer/", known.tensors), first)
    for epoch in range(first, schedule.epochs + 1):
        network.train()
        total = total if done else 0.0
        seen = images if views is None else views(epoch)
        # Nearly equal batches: a short last one would have poor batch statistics.
        drawn_by = generator.get_state()
        order = torch.randperm(len(labels), generator=generator)
        parts = order.tensor_split(math.ceil(len(labels) / schedule.batch))
        for index in parts[done:]:
            value = gradient(seen, index)
            regularizer.pull()
            optimizer.step()
            total += value * len(index)
            done += 1
            if resume is not None:
                resume.offer(snapshot)
        done = 0
        regularizer.turn()
        if not torch.isfinite(torch.tensor(total)):
            raise Diverged(epoch=epoch, rate=schedule.rate, last_loss=last)
        last = total / len(labels)
        scheduler.step()
        if on_epoch is not None and on_epoch(
            epoch, last, lambda: outputs_of(network, images, compute)
        ):
            return epoch
    return schedule.epochs


def _optimizer(network: nn.Module, schedule: Schedule, decay: float) -> torch.optim.Optimizer:
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=decay)
    return torch.optim.SGD(
        network.parameters(), lr=schedule.rate, momentum=schedule.momentum, weight_decay=decay
    )


def fit_head(network: Classifier, features: Tensor, labels: Tensor, weight_decay: float) -> None:
    """Bring the head alone to its optimum by L-BFGS: the first half of LP-FT.

    Args:
        network: its head is trained in place.
        features: what the head sees of the training images, N × D.
        labels: N.
        weight_decay: decay towards zero, in the mean form of the loss.
    """
    weights = list(network.head.parameters())
    solver = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        penalty = sum(weight.square().sum() for weight in weights)
        value = F.cross_entropy(network.head(features), labels) + 0.5 * weight_decay * penalty
        value.backward()
        return value

    solver.step(loss)  # type: ignore[no-untyped-call, unused-ignore]


def _training_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and buffers, what the optimizer holds, and the state of the random generators."""
    state = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, held in optimizer.state[parameter].items():
            if held is not None:
                state[f"optimizer/{key}/{name}"] = held
    state["generator/cpu"] = torch.get_rng_state()
    if (place := next(network.parameters()).device).type == "cuda":
        state["generator/cuda"] = torch.cuda.get_rng_state(place)
    return state


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def _restore_training(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    network.load_state_dict(_under("network/", state))
    parameters = dict(network.named_parameters())
    for path, tensor in state.items():
        if path.startswith("optimizer/"):
            _, key, name = path.split("/", 2)
            parameter = parameters[name]
            # In the memory layout of its parameter, as the optimizer makes it.
            alike = tensor.shape == parameter.shape and tensor.ndim > 0
            held = torch.empty_like(parameter, requires_grad=False) if alike else tensor.clone()
            optimizer.state[parameter][key] = held.copy_(tensor)
    torch.set_rng_state(state["generator/cpu"])
    if "generator/cuda" in state:
        torch.cuda.set_rng_state(state["generator/cuda"], next(network.parameters()).device)
