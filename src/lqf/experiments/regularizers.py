"""Regularisers of non-linear fine-tuning, each as its paper has it.

Weight Compander (Cakaj et al. 2023) and DR-Tune (Zhou et al. 2023) are not among them; docs/reference/regularizers.md
says what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lqf.losses import CrossEntropy, Loss


class Regularizer:
    """None: the loss on the labels, and what every other one overrides.

    Args:
        labels: labels of the training samples, N.
        loss: the loss, a mean over samples.
    """

    #: Whether it takes the place of the optimizer's weight decay.
    decays = False

    def __init__(self, labels: Tensor, loss: Loss) -> None:
        self.labels, self.loss = labels, loss

    def value(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Mean objective of the samples in ``index``; may be taken again where memory ran out."""
        return self.loss.value(outputs, self.labels[index])

    def pull(self) -> None:
        """Add to the gradients of a step what depends on the weights alone."""

    def turn(self) -> None:
        """An epoch has ended."""

    def state(self) -> dict[str, Tensor]:
        """What an interrupted training has to keep."""
        return {}

    def restore(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Go on from a state in ``epoch``, counted from 1."""


class L2SP(Regularizer):
    """L2-SP (Li, Grandvalet, Davoine 2018): decay towards the pre-trained weights.

    The penalty is α/2 ‖w − w0‖² + β/2 ‖head‖². The paper searches α and fixes β at 0.01; here the weight
    decay of the grid, which is searched, is both. No decay is no regulariser.

    Args:
        labels: labels of the training samples, N.
        loss: the loss.
        network: the network at w0.
        strength: α and β.
    """

    decays = True

    def __init__(self, labels: Tensor, loss: Loss, network: nn.Module, strength: float) -> None:
        super().__init__(labels, loss)
        self._network, self._strength = network, strength
        self._first = {
            name: torch.zeros_like(weight) if name.startswith("head.") else weight.detach().clone()
            for name, weight in network.named_parameters()
        }

    def pull(self) -> None:
        """Add the gradient of the penalty."""
        for name, weight in self._network.named_parameters():
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - self._first[name], alpha=self._strength)


class _Remembering(Regularizer):
    """Remembers a distribution over the classes for each training sample, from one epoch to the next."""

    def __init__(self, labels: Tensor, loss: CrossEntropy) -> None:
        super().__init__(labels, loss)
        self.smoothing = loss.smoothing
        self.epoch = 1
        self._memory: tuple[Tensor, Tensor] | None = None

    def first(self, outputs: Tensor) -> Tensor:
        """What is remembered before the first epoch, N × C."""
        return outputs.new_zeros(len(self.labels), outputs.shape[1])

    def recall(self, outputs: Tensor, index: Tensor) -> Tensor:
        """What the last epoch left for some samples."""
        return self._of(outputs)[0][index]

    def remember(self, outputs: Tensor, index: Tensor, distributions: Tensor) -> None:
        """Keep something for the next epoch; a second time takes the place of the first."""
        self._of(outputs)[1][index] = distributions

    def _of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """What the last epoch left, and what this one leaves."""
        if self._memory is None:
            first = self.first(outputs)
            self._memory = first, first.clone()
        return self._memory

    def turn(self) -> None:
        """What was remembered becomes the past."""
        if self._memory is not None:
            self._memory = self._memory[1], self._memory[0]
        self.epoch += 1

    def state(self) -> dict[str, Tensor]:
        """Both memories."""
        return dict(zip(("past", "present"), self._memory or (), strict=False))

    def restore(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Go on from a state in ``epoch``."""
        place = self.labels.device
        self._memory = state["past"].to(place), state["present"].to(place)
        self.epoch = epoch


class PSKD(_Remembering):
    """PS-KD (Kim, Ji, Yoon, Hwang 2021): the network of the last epoch softens its own targets.

    Cross-entropy against α_t p_{t−1} + (1 − α_t) onehot(y) with α_t = α_T t / T, where p_{t−1} is what the network
    predicted for the sample in the epoch before; in the first epoch it is the label. α_T = 0 is no regulariser.

    Args:
        labels: labels of the training samples, N.
        loss: cross-entropy.
        epochs: T.
        last: α_T, 0.8 in the paper.
    """

    def __init__(self, labels: Tensor, loss: CrossEntropy, epochs: int, last: float = 0.8) -> None:
        super().__init__(labels, loss)
        self._epochs, self._last = epochs, last

    def first(self, outputs: Tensor) -> Tensor:
        """The labels, one-hot."""
        return F.one_hot(self.labels, outputs.shape[1]).to(outputs)

    def value(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy against the softened targets."""
        share = self._last * self.epoch / self._epochs
        hard = F.one_hot(self.labels[index], outputs.shape[1]).to(outputs)
        targets = share * self.recall(outputs, index) + (1 - share) * hard
        self.remember(outputs, index, outputs.detach().softmax(1))
        return F.cross_entropy(outputs, targets, label_smoothing=self.smoothing)


class ELR(_Remembering):
    """ELR (Liu, Niles-Weed, Razavian, Fernandez-Granda 2020): early learning against noisy labels.

    The loss plus λ mean log(1 − ⟨p, t⟩), where p is the prediction and t ← β t + (1 − β) p its average over epochs,
    which starts at 0 and passes no gradient. λ = 0 is no regulariser.

    Args:
        labels: labels of the training samples, N.
        loss: cross-entropy.
        momentum: β, 0.7 in the paper (CIFAR-10).
        strength: λ, 3 in the paper (CIFAR-10).
    """

    #: Probabilities are kept this far from 0 and 1, so that the logarithm is finite; as in the paper's code.
    FLOOR = 1e-4

    def __init__(
        self, labels: Tensor, loss: CrossEntropy, momentum: float = 0.7, strength: float = 3.0
    ) -> None:
        super().__init__(labels, loss)
        self._momentum, self._strength = momentum, strength

    def value(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy, and a reward for agreeing with the average."""
        p = outputs.softmax(1).clamp(self.FLOOR, 1 - self.FLOOR)
        now = p.detach() / p.detach().sum(1, keepdim=True)
        average = self._momentum * self.recall(outputs, index) + (1 - self._momentum) * now
        self.remember(outputs, index, average)
        agreement = (1 - (p * average).sum(1)).log().mean()
        return self.loss.value(outputs, self.labels[index]) + self._strength * agreement


def make_regularizer(
    name: str, labels: Tensor, loss: Loss, network: nn.Module, weight_decay: float, epochs: int
) -> Regularizer:
    """The regulariser of that name, with its paper's constants.

    Args:
        name: a `regularizer` of `lqf.method.Method`.
        labels: labels of the training samples, N.
        loss: the loss; cross-entropy where the targets change.
        network: the network at w0.
        weight_decay: of the grid.
        epochs: of the training.
    """
    if name == "l2_sp":
        return L2SP(labels, loss, network, weight_decay)
    if isinstance(loss, CrossEntropy) and name in ("ps_kd", "elr"):
        return PSKD(labels, loss, epochs) if name == "ps_kd" else ELR(labels, loss)
    return Regularizer(labels, loss)
