"""One run of a network at w0 that yields ``f0`` with its graph and ``J δ`` without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.func import jvp

from lqf.jacobian import rules
from lqf.jacobian.pairs import Pair, load_forward_mode
from lqf.jacobian.tape import Kept
from lqf.memory import refuse_out_of_memory

# Reading the module registers its rules.
_REGISTERED = rules

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
        self,
        network: Network,
        weights: dict[str, Tensor],
        direction: dict[str, Tensor],
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs at w0, N × C, with their graph, and ``J δ``, N × C.

        Args:
            network: maps the trained parameters, by name, to outputs N × C.
            weights: the parameters at w0; those that require a gradient give f0 a graph.
            direction: δ by parameter name.
            kept: of these images; the first run fills it, and further ones read it.
        """
        reason: Exception | None = None
        if not self.whole:
            try:
                with nullcontext() if kept is None else kept.running():
                    return self._pairs(network, weights, direction)
            except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                refuse_out_of_memory(error)  # the whole network would take more
                reason = error
        # What is wrong with the network itself is raised again by running it whole.
        result = self._whole(network, weights, direction)
        if reason is not None:
            _LOG.warning("the network is differentiated whole, which takes more time: %s", reason)
        if kept is not None:
            kept.refusal = "the network is differentiated whole."
        self.whole = True
        return result

    @staticmethod
    def _pairs(
        network: Network, weights: dict[str, Tensor], direction: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            outputs = network({name: Pair(w, direction[name]) for name, w in weights.items()})
            if isinstance(outputs, Pair):
                return outputs.pair()
        return outputs, torch.zeros_like(outputs)

    @staticmethod
    def _whole(
        network: Network, weights: dict[str, Tensor], direction: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        load_forward_mode()
        with torch.no_grad():
            fixed = {name: w.detach() for name, w in weights.items()}
            outputs, change = jvp(network, (fixed,), (direction,))[:2]
        if any(w.requires_grad for w in weights.values()):
            with torch.enable_grad():
                outputs = network(weights)
        return outputs, change


@contextmanager
def gradient_slices(leaves: dict[str, Tensor], vector: Tensor) -> Iterator[None]:
    """Gradients of leaves are added to their place in a vector, P, as soon as a backward pass has them.

    A second copy of all gradients is so never held.
    """

    def receiver(place: Tensor) -> Callable[[Tensor], None]:
        def receive(leaf: Tensor) -> None:
            gradient, leaf.grad = leaf.grad, None
            if gradient is not None:
                place.add_(gradient.reshape(-1))

        return receive

    places = vector.split([leaf.numel() for leaf in leaves.values()])
    handles = [
        leaf.register_post_accumulate_grad_hook(receiver(place))
        for leaf, place in zip(leaves.values(), places, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
