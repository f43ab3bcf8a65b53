"""One run of a network at w0 that yields ``f0`` with its graph and ``J δ`` without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import jvp

import lqf.linear.rules
import lqf.linear.rules_elementwise  # noqa: F401  (registers its rules, as the line above does)
from lqf.linear.dual import Dual

_LOG = logging.getLogger(__name__)

# The network as a function of its trained parameters, for images that are already bound.
Network = Callable[[dict[str, Tensor]], Tensor]


class Walk:
    """Runs a network on pairs of primal and tangent, or whole where pairs cannot follow it.

    Attributes:
        whole: whether the network has to be differentiated whole; found out by the first run.
    """

    def __init__(self) -> None:
        self.whole = False

    def __call__(
        self, network: Network, weights: dict[str, Tensor], direction: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Outputs at w0 and their derivative along δ.

        Args:
            network: maps the trained parameters, by name, to outputs N × C.
            weights: the parameters at w0; those that require a gradient give f0 a graph.
            direction: δ by parameter name.

        Returns:
            f0 (N × C), with its graph, and ``J δ`` (N × C).
        """
        if not self.whole:
            try:
                return self._pairs(network, weights, direction)
            except Exception as error:  # noqa: BLE001
                # What is wrong with the network itself is raised again by running it whole.
                result = self._whole(network, weights, direction)
                _LOG.warning(
                    "the network is differentiated whole, which takes more time: %s", error
                )
                self.whole = True
                return result
        return self._whole(network, weights, direction)

    @staticmethod
    def _pairs(
        network: Network, weights: dict[str, Tensor], direction: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            outputs = network({name: Dual(w, direction[name]) for name, w in weights.items()})
            if isinstance(outputs, Dual):
                return outputs.pair()
        return outputs, torch.zeros_like(outputs)

    @staticmethod
    def _whole(
        network: Network, weights: dict[str, Tensor], direction: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            fixed = {name: w.detach() for name, w in weights.items()}
            outputs, change = jvp(network, (fixed,), (direction,))
        if any(w.requires_grad for w in weights.values()):
            with torch.enable_grad():
                outputs = network(weights)
        return outputs, change


@contextmanager
def gradient_slices(leaves: dict[str, Tensor], vector: Tensor) -> Iterator[None]:
    """Gradients go into their place in a flat vector as soon as a backward pass has them.

    Inside the block each leaf's gradient is added to its entries of ``vector`` and freed, so a
    second copy of all gradients is never held.

    Args:
        leaves: parameters that require a gradient, in the order of the vector.
        vector: P, changed.
    """
    places = vector.split([leaf.numel() for leaf in leaves.values()])

    def receiver(place: Tensor) -> Callable[[Tensor], None]:
        def receive(leaf: Tensor) -> None:
            if leaf.grad is not None:
                place.view(leaf.shape).add_(leaf.grad)
                leaf.grad = None

        return receive

    handles = [
        leaf.register_post_accumulate_grad_hook(receiver(place))
        for leaf, place in zip(leaves.values(), places, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
