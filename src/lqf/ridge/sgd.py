"""Stochastic gradient descent with momentum, optionally preconditioned (the paper's solver).

The decay is coupled: wd·δ is added to the gradient before the preconditioner. Then the fixed point
is the ridge solution under any preconditioner; decoupled decay would converge to another one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.jacobian.operators import Jacobian
from lqf.losses import Loss
from lqf.ridge.protocol import (
    Diverged,
    Precondition,
    Resume,
    Snapshot,
    Solution,
    check_weight_decay,
    start_vector,
)

# on_epoch(epoch, delta, mean train loss of the epoch) -> True to stop.
OnEpoch = Callable[[int, Tensor, float], bool | None]


def solve_sgd(
    jacobian: Jacobian,
    loss: Loss,
    labels: Tensor,
    *,
    weight_decay: float,
    rate: float,
    epochs: int,
    momentum: float = 0.9,
    batch: int = 32,
    milestones: Sequence[float] = (0.5, 0.8),
    decay: float = 0.1,
    seed: int = 0,
    preconditioner: Precondition | None = None,
    start: Tensor | None = None,
    before_epoch: Callable[[int], None] | None = None,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
) -> Solution:
    """Minimise (1/N) Σ ℓ(f0_i + J_iδ, y_i) + (wd/2)‖δ‖² by (preconditioned) SGD (LQF §3.2, §4).

    One step on a mini-batch B of b samples: g = P((1/b) Σ_B J_iᵀ ℓ'_i + wd·δ), v ← momentum·v + g,
    δ ← δ − rate·v (heavy ball, as in torch.optim.SGD).

    Args:
        jacobian: the linearised network on the N training samples.
        loss: squared loss or cross-entropy.
        labels: N class numbers.
        weight_decay: wd.
        rate: learning rate; with a preconditioner, `stable_rate` gives its natural unit.
        epochs: passes over the samples.
        momentum: momentum, 0 ≤ momentum < 1.
        batch: largest number of samples in a mini-batch; an epoch's are nearly equal, since a short last one
            would be noisier than the rate allows for. N or more means full-batch steps.
        milestones: fractions of `epochs` after which the rate is multiplied by `decay`.
        decay: the factor of each milestone.
        seed: seed of the order of the samples.
        preconditioner: P, None for the identity.
        start: δ to start from; None for zeros.
        before_epoch: called with the number of each epoch before it; an augmented Jacobian takes a new
            view of its samples there.
        on_epoch: called after each epoch; a true return value stops the run. The vector it is
            given changes with the next step: clone what is kept.
        resume: keeps the state after a step; a run that goes on from it ends with the same bits.

    Returns:
        The last iterate, and the loss there.

    Raises:
        ValueError: if an argument is out of range.
        Diverged: if the loss becomes NaN or infinite.
    """
    _check(jacobian, labels, weight_decay, rate, momentum, batch, epochs, milestones)
    samples, base = jacobian.samples, jacobian.base
    delta = start_vector(jacobian, start)
    velocity = torch.zeros_like(delta)
    labels = labels.to(base.device)
    generator = torch.Generator().manual_seed(seed)
    bounds = [round(fraction * epochs) for fraction in milestones]
    last_loss: float | None = None
    first, done, total = 1, 0, base.new_zeros(())

    def snapshot() -> Snapshot:
        tensors = {"delta": delta, "velocity": velocity, "total": total, "generator": drawn_by}
        numbers = {"epoch": epoch, "done": done, "last_loss": last_loss}
        return Snapshot(tensors, numbers)

    if resume is not None and (known := resume.load()) is not None:
        delta.copy_(known.tensors["delta"])
        velocity.copy_(known.tensors["velocity"])
        total = known.tensors["total"].to(base)
        generator.set_state(known.tensors["generator"])
        first, done = known.numbers["epoch"], known.numbers["done"]
        last_loss = known.numbers["last_loss"]
    for epoch in range(first, epochs + 1):
        current = rate * decay ** sum(epoch > bound for bound in bounds)
        total = total if done else base.new_zeros(())
        drawn_by = generator.get_state()
        order = torch.randperm(samples, generator=generator).to(base.device)
        parts = order.tensor_split(math.ceil(samples / batch))
        if before_epoch is not None:
            before_epoch(epoch)
        for index in parts[done:]:
            whole = len(index) == samples
            # All rows in their own order need no gather (and no copy) of the Jacobian.
            rows = None if whole else index
            targets = labels if whole else labels[index]
            before = base if whole else base[index]
            slope = _Slope(loss, before, targets)
            change, gradient = jacobian.pass_(delta, slope, rows)
            total += loss.value(before + change, targets).detach() * len(index)
            gradient = torch.add(gradient, delta, alpha=weight_decay)
            if preconditioner is not None:
                gradient = preconditioner.solve(gradient)
            velocity.mul_(momentum).add_(gradient)
            delta.sub_(velocity, alpha=current)
            done += 1
            if resume is not None:
                resume.offer(snapshot)
        done = 0
        mean_loss = float(total) / samples
        if not _finite(mean_loss) or not bool(torch.isfinite(delta).all()):
            raise Diverged(epoch, current, last_loss)
        last_loss = mean_loss
        if on_epoch is not None and on_epoch(epoch, delta, mean_loss):
            break
    final = float(loss.value(base + jacobian.forward(delta), labels))
    if not _finite(final):
        raise Diverged(epoch, current, last_loss)
    return Solution(delta, final, epoch)


@dataclass(frozen=True)
class _Slope:
    """ℓ'/b of a mini-batch of b samples, as a function of ``J δ`` of some of them."""

    loss: Loss
    base: Tensor
    labels: Tensor

    def __call__(self, change: Tensor, rows: slice) -> Tensor:
        outputs = self.base[rows] + change
        return self.loss.cotangent(outputs, self.labels[rows]) / len(self.base)


def stable_rate(
    jacobian: Jacobian,
    weight_decay: float,
    preconditioner: Precondition | None = None,
    iterations: int = 20,
    seed: int = 0,
    batch: int | None = None,
) -> float:
    """Return 1/λ_max of P(G + wd·I), the natural unit of the learning rate.

    Full-batch gradient descent is stable below 2/λ_max. A mini-batch of b samples can be up to N/b
    times as curved in the directions that it does not share with the others, which is the rule
    where P > NC and the preconditioner lifts them; `batch` takes the most curved of an epoch's
    mini-batches instead. Power iteration on P·H, H = G + wd·I, with the Rayleigh quotient
    uᵀPu / vᵀu, u = Hv, which belongs to the symmetric H^½ P H^½; it approaches λ_max from below.
    Each iteration is one pass over the samples.

    Args:
        jacobian: the linearised network on the N training samples.
        weight_decay: wd.
        preconditioner: P, None for the identity.
        iterations: power iterations.
        seed: seed of the starting vector, and of the mini-batches.
        batch: samples in a mini-batch; None for all.

    Returns:
        1/λ_max.

    Raises:
        ValueError: if `iterations` or `batch` is not positive, or the Jacobian and weight_decay
            are zero.
    """
    check_weight_decay(weight_decay)
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; at least one power iteration is needed.")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1, or None for all samples.")
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(jacobian.size, generator=generator, dtype=torch.float64).to(jacobian.base)
    parts: list[Tensor | None] = [None]
    if batch is not None and batch < jacobian.samples:
        order = torch.randperm(jacobian.samples, generator=generator).to(jacobian.base.device)
        parts = list(order.tensor_split(math.ceil(jacobian.samples / batch)))
    largest = max(
        _largest(jacobian, weight_decay, preconditioner, iterations, start, index)
        for index in parts
    )
    if not (largest > 0 and _finite(largest)):
        raise ValueError(
            f"The Jacobian is zero (or not finite) and weight_decay is {weight_decay!r}, so no "
            "learning rate is defined; a zero head makes the backbone's Jacobian zero: initialise "
            "the head at random."
        )
    return 1.0 / largest


def _largest(
    jacobian: Jacobian,
    weight_decay: float,
    preconditioner: Precondition | None,
    iterations: int,
    vector: Tensor,
    index: Tensor | None,
) -> float:
    """Return the largest eigenvalue of P(G + wd·I) on some of the samples, 0 if H·v is 0."""
    samples = jacobian.samples if index is None else len(index)
    largest = 0.0
    for _ in range(iterations):
        vector = vector / vector.norm()
        _, product = jacobian.pass_(vector, lambda change, _: change, index)
        product = product / samples + weight_decay * vector
        curvature = float(vector.double() @ product.double())
        if curvature == 0.0:
            return 0.0
        vector = product if preconditioner is None else preconditioner.solve(product)
        largest = float(product.double() @ vector.double()) / curvature
    return largest


def _finite(value: float) -> bool:
    return value - value == 0.0


def _check(
    jacobian: Jacobian,
    labels: Tensor,
    weight_decay: float,
    rate: float,
    momentum: float,
    batch: int,
    epochs: int,
    milestones: Sequence[float],
) -> None:
    check_weight_decay(weight_decay)
    if tuple(labels.shape) != (jacobian.samples,):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}; one class number for each of the "
            f"{jacobian.samples} samples is needed."
        )
    if not (rate > 0 and _finite(rate)):
        raise ValueError(f"rate is {rate!r}; the learning rate must be a finite number > 0.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum!r}; it must lie in [0, 1).")
    if batch < 1 or epochs < 1:
        raise ValueError(f"batch is {batch} and epochs is {epochs}; both must be at least 1.")
    if any(not 0 <= fraction <= 1 for fraction in milestones):
        raise ValueError(
            f"milestones is {tuple(milestones)!r}; each is a fraction of the epochs in [0, 1]."
        )
