"""One run of a network at w0 that yields ``f0`` with its graph and ``J δ`` without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.func import jvp, vmap

from lqf.jacobian import rules, rules_elementwise
from lqf.jacobian.pairs import Pair, load_forward_mode
from lqf.jacobian.tape import Tape
from lqf.memory import refuse_out_of_memory

# Reading these modules registers their rules.
_REGISTERED = (rules, rules_elementwise)

_LOG = logging.getLogger(__name__)

# Tangents carried beside one run of the network; each takes memory for its activations.
_AT_ONCE = 8

# The network as a function of its trained parameters, for images that are already bound.
Network = Callable[[dict[str, Tensor]], Tensor]


class Walk:
    """Runs a network on pairs of primal and tangent, or whole where pairs cannot follow it.

    Attributes:
        whole: whether the network has to be differentiated whole; found out by the first run.
        singly: whether several directions have to be followed one after the other; the same.
    """

    def __init__(self) -> None:
        self.whole = False
        self.singly = False

    def __call__(
        self,
        network: Network,
        weights: dict[str, Tensor],
        direction: dict[str, Tensor],
        tape: Tape | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs at w0 and their derivative along δ.

        Args:
            network: maps the trained parameters, by name, to outputs N × C.
            weights: the parameters at w0; those that require a gradient give f0 a graph.
            direction: δ by parameter name.
            tape: what runs of this network on these images are written on, and then read from.

        Returns:
            f0 (N × C), with its graph, and ``J δ`` (N × C).

        Raises:
            OutOfMemoryError: if memory runs out.
        """
        if self.whole:
            if tape is not None:
                tape.refusal = "the network is differentiated whole."
            return self._whole(network, weights, direction)
        try:
            with nullcontext() if tape is None else tape.running():
                return self._pairs(network, weights, direction)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            refuse_out_of_memory(error)  # the whole network would take more
            reason = error
        # What is wrong with the network itself is raised again by running it whole.
        result = self._whole(network, weights, direction)
        if tape is not None:
            tape.refusal = "the network is differentiated whole."
        _LOG.warning("the network is differentiated whole, which takes more time: %s", reason)
        self.whole = True
        return result

    def many(
        self, network: Network, weights: dict[str, Tensor], directions: dict[str, Tensor]
    ) -> Tensor:
        """The derivatives along several δ, beside one run of the network at w0.

        Args:
            network: maps the trained parameters, by name, to outputs N × C.
            weights: the parameters at w0.
            directions: by parameter name, k × its shape.

        Returns:
            ``J δ`` of each, k × N × C.

        Raises:
            OutOfMemoryError: if memory runs out.
        """
        count = len(next(iter(directions.values())))
        if not self.singly and not self.whole and count > 1:
            try:
                follow = vmap(
                    lambda direction: self._pairs(network, weights, direction)[1],
                    chunk_size=_AT_ONCE,
                )
                return follow(directions)
            except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                refuse_out_of_memory(error)
                _LOG.info("directions are followed one after the other: %s", error)
                self.singly = True
        each = ({name: part[i] for name, part in directions.items()} for i in range(count))
        return torch.stack([self(network, weights, direction)[1] for direction in each])

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
def gradient_slices(
    leaves: dict[str, Tensor], vector: Tensor, *, add: bool = True
) -> Iterator[None]:
    """Gradients go into their place in a flat vector as soon as a backward pass has them.

    A second copy of all gradients is so never held.

    Args:
        leaves: parameters that require a gradient, in the order of the vector.
        vector: P, changed.
        add: add to what the vector holds; otherwise it is overwritten, all of it.
    """
    places = vector.split([leaf.numel() for leaf in leaves.values()])
    missing = dict(zip(leaves, places, strict=True))

    def receiver(name: str, place: Tensor) -> Callable[[Tensor], None]:
        def receive(leaf: Tensor) -> None:
            gradient, leaf.grad = leaf.grad, None
            if gradient is not None:
                store = place.add_ if add else place.copy_
                store(gradient.reshape(-1))
                missing.pop(name, None)

        return receive

    handles = [
        leaf.register_post_accumulate_grad_hook(receiver(name, place))
        for (name, leaf), place in zip(leaves.items(), places, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if not add:
        for place in missing.values():
            place.zero_()
