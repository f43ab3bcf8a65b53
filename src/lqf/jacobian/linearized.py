"""The first-order expansion ``f0(x) + J(x) δ`` of a network at its pre-trained weights (LQF eq. 1).

The network is evaluated as it stands at w0, in evaluation mode: batch normalisation uses its
running statistics, so that the Jacobian of a sample does not depend on its neighbours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from lqf.jacobian.layout import Layout
from lqf.jacobian.modes import differentiable, evaluation, substituted
from lqf.jacobian.tape import Kept
from lqf.jacobian.walk import Walk, gradient_slices

# Parameters and modes of a network are exchanged while it runs, which one thread may do at a time.
_RUNNING = threading.RLock()


class Linearized:
    """Products with the Jacobian of a network at w0.

    The network itself is not changed: parameters are read, never written, and every call runs in
    evaluation mode and restores the mode it found.

    Args:
        network: maps N × 3 × H × W to N × C.
        names: the trained parameters; None means all.

    Raises:
        ValueError: if a name is not a parameter of the network, or no parameter is trained.
    """

    def __init__(self, network: nn.Module, names: Iterable[str] | None = None) -> None:
        self.network = network
        parameters = dict(network.named_parameters())
        chosen = list(parameters) if names is None else list(names)
        unknown = [name for name in chosen if name not in parameters]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is not a parameter of {type(network).__name__}; its parameters "
                f"are {', '.join(parameters)}."
            )
        if not chosen:
            raise ValueError(
                f"no parameter of {type(network).__name__} is trained; give at least one name."
            )
        wanted = set(chosen)
        trained = [(name, p.detach()) for name, p in parameters.items() if name in wanted]
        self.layout = Layout.of(trained)
        self._trained = dict(trained)
        self._fixed = {n: p.detach() for n, p in parameters.items() if n not in wanted}
        self._walk = Walk()

    def _call(self, trained: dict[str, Tensor], images: Tensor) -> Tensor:
        with substituted(self.network, {**self._fixed, **trained}):
            return self.network(images)

    def _leaves(self) -> dict[str, Tensor]:
        """The trained parameters, sharing memory, as leaves of a new graph."""
        return {name: p.detach().requires_grad_() for name, p in self._trained.items()}

    @contextmanager
    def _running(self, images: Tensor) -> Iterator[None]:
        """Everything a network needs to be run and differentiated on these images.

        Raises:
            ValueError: if the images' precision is not that of the parameters.
        """
        first, parameter = next(iter(self._trained.items()))
        if images.is_floating_point() and images.dtype != parameter.dtype:
            raise ValueError(
                f"images are {images.dtype} and parameter {first!r} is {parameter.dtype}; both "
                "need one precision: convert the images with `.to(dtype)`."
            )
        with _RUNNING, evaluation(self.network), differentiable(images.device):
            yield

    def outputs(self, images: Tensor) -> Tensor:
        """f0(x), N × C."""
        with self._running(images), torch.no_grad():
            return self._call(self._trained, images)

    def jvp(self, images: Tensor, delta: Tensor, kept: Kept | None = None) -> Tensor:
        """``J δ``, N × C, for a flat δ (P); forward mode, one pass, no graph.

        Args:
            images: N × 3 × H × W.
            delta: δ, P.
            kept: of these images; the first product fills it.
        """
        if kept is not None:
            return self._at(images, delta, kept)[1]
        return self._forward(images, delta, self._trained)[1]

    def _forward(
        self, images: Tensor, delta: Tensor, weights: dict[str, Tensor], kept: Kept | None = None
    ) -> tuple[Tensor, Tensor]:
        """f0, with a graph if the weights require gradients, and ``J δ``; both N × C."""
        direction = self.layout.split(delta.detach())
        with self._running(images):
            return self._walk(lambda w: self._call(w, images), weights, direction, kept)

    def _at(
        self, images: Tensor, delta: Tensor, kept: Kept | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """f0 with its graph, ``J δ``, and the leaves of the graph, from what is kept if it can be."""
        if kept is not None and kept.refusal is None:
            leaves = kept.leaves or self._leaves()
            primal, change = self._forward(images, delta, leaves, kept)
            if kept.refusal is None:
                if kept.outputs is None:
                    kept.leaves, kept.outputs = leaves, primal
                return kept.outputs, change, leaves
            kept.leaves, kept.outputs = {}, None
        leaves = self._leaves()
        primal, change = self._forward(images, delta, leaves)
        return primal, change, leaves

    def vjp(
        self,
        images: Tensor,
        cotangent: Tensor,
        out: Tensor | None = None,
        kept: Kept | None = None,
    ) -> Tensor:
        """``Jᵀ c`` summed over samples for c (N × C): a flat vector (P).

        Args:
            images: N × 3 × H × W.
            cotangent: c, N × C.
            out: a vector (P) that the result is added to, and that is returned; None for a new one.
            kept: of these images; the first product fills it.

        Raises:
            ValueError: if ``cotangent`` does not have the shape of the outputs, or a part runs under
                torch.utils.checkpoint.
        """
        if kept is not None:
            if kept.outputs is None and kept.refusal is None:
                self._at(images, torch.zeros(self.layout.size).to(cotangent), kept)
            if kept.outputs is not None:
                return self._backward(kept.outputs, cotangent, kept.leaves, out, keep=True)
        leaves = self._leaves()
        with self._running(images), torch.enable_grad():
            outputs = self._call(leaves, images)
        return self._backward(outputs, cotangent, leaves, out)

    def _backward(
        self,
        outputs: Tensor,
        cotangent: Tensor,
        leaves: dict[str, Tensor],
        out: Tensor | None,
        keep: bool = False,
    ) -> Tensor:
        if cotangent.shape != outputs.shape:
            raise ValueError(
                f"the cotangent has shape {tuple(cotangent.shape)}; it needs that of the outputs, "
                f"{tuple(outputs.shape)}."
            )
        if out is None:
            out = next(iter(leaves.values())).new_zeros(self.layout.size)
        with gradient_slices(leaves, out):
            if outputs.requires_grad:
                inputs = list(leaves.values())
                try:
                    torch.autograd.backward(outputs, cotangent, retain_graph=keep, inputs=inputs)
                except CheckpointError:
                    raise ValueError(
                        "a part of the network runs under torch.utils.checkpoint, which runs it again without its "
                        "tangents; switch that off (no more is held than in ordinary fine-tuning)."
                    ) from None
        return out

    def product(
        self,
        images: Tensor,
        delta: Tensor,
        cotangent: Callable[[Tensor, Tensor], Tensor],
        out: Tensor | None = None,
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs at δ and the gradient they call for, as one optimisation step needs them.

        The network runs once, carrying tangents beside it; the backward pass is that of the frozen
        network, so the memory is that of ordinary fine-tuning.  With ``lambda f0, df: df`` this is a product with the Gauss–Newton matrix (sum form), and
        nothing is lost to cancellation where ``J δ`` is small beside f0.

        Args:
            images: N × 3 × H × W.
            delta: δ, P.
            cotangent: maps f0 and ``J δ`` (both N × C) to c (N × C).
            out: a vector (P) that ``Jᵀ c`` is added to, and that is returned; None for a new one.
            kept: of these images; the first product fills it, and further ones are cheaper.

        Returns:
            f0 + J δ (N × C), ``J δ`` (N × C) and ``Jᵀ c`` (P).

        Raises:
            ValueError: if the cotangent does not have the shape of the outputs.
        """
        primal, change, leaves = self._at(images, delta, kept)
        base = primal.detach()
        again = kept is not None and kept.refusal is None
        gradient = self._backward(primal, cotangent(base, change), leaves, out, keep=again)
        return base + change, change, gradient

    @contextmanager
    def run(self, images: Tensor) -> Iterator[tuple[Callable[[Tensor], Tensor], dict[str, Tensor]]]:
        """The network at w0 as a function of images, with a graph down to its parameters.

        Args:
            images: b × 3 × H × W, whose precision and device count.

        Yields:
            The function, to outputs b × C, and the trained parameters as leaves of its graphs.
        """
        leaves = self._leaves()
        with self._running(images), torch.enable_grad():
            yield lambda x: self._call(leaves, x), leaves
