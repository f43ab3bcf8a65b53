"""One step of non-linear training: the gradient of a batch, in parts where memory asks for it."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from lqf.compute import Compute
from lqf.experiments.regularizers import Regularizer
from lqf.jacobian import Images
from lqf.memory import AtOnce
from lqf.networks import BatchNorm

log = logging.getLogger(__name__)


class Gradient:
    """The mean loss of a batch and its gradient, which is left in the parameters.

    Where memory runs out, the batch is run in parts whose gradients add up: the same result up to
    rounding, except where batch norm trains: it then sees the statistics of the parts ("ghost" batch
    norm), and the log says so.

    Args:
        network: the network that is trained.
        objective: a mean over samples, with their labels.
        batch: samples of a step.
        compute: precision.
    """

    def __init__(
        self, network: nn.Module, objective: Regularizer, batch: int, compute: Compute
    ) -> None:
        self._network, self._objective = network, objective
        self._mixed = compute.mixed(next(network.parameters()).device)
        self._at_once = AtOnce(batch, "training")

    def __call__(self, images: Images, index: Tensor) -> float:
        """Mean objective of the samples in ``index``."""
        norms = [m for m in self._network.modules() if isinstance(m, BatchNorm) and m.training]
        before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]

        def gradient(size: int) -> float:
            self._network.zero_grad(set_to_none=True)
            for buffer, value in before:
                buffer.copy_(value)
            total = 0.0
            for part in index.split(size):
                outputs = outputs_in(self._mixed, self._network, images[part])
                value = self._objective.value(outputs, part)
                share = len(part) / len(index)
                (value if len(part) == len(index) else value * share).backward()
                total += value.item() * share
            return total

        size = self._at_once.size
        result = self._at_once.run(gradient, len(index))
        if norms and self._at_once.size < size:
            log.warning(
                "training: batch norm now sees parts of at most %d images, not batches of %d (ghost "
                "batch norm), so the result is not that of whole batches; batch_norm: frozen has no "
                "such difference.",
                self._at_once.size,
                len(index),
            )
        return result


def outputs_in(mixed: torch.autocast, network: nn.Module, images: Tensor) -> Tensor:
    """The network's outputs in mixed precision, given back in the precision of the images."""
    with mixed:
        outputs = network(images)
    return outputs.to(images.dtype)
