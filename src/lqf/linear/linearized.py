"""The first-order expansion ``f0(x) + J(x) δ`` of a network at its pre-trained weights (LQF eq. 1).

The network is evaluated as it stands at w0, in evaluation mode: batch normalisation uses its
running statistics, so that the Jacobian of a sample does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from lqf.linear.layout import Layout
from lqf.linear.per_sample import per_sample_rows, treatable


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
        self._buffers = {n: b.detach() for n, b in network.named_buffers()}

    def _call(self, trained: dict[str, Tensor], images: Tensor) -> Tensor:
        state = {**self._fixed, **self._buffers, **trained}
        return functional_call(self.network, state, (images,))

    def _leaves(self) -> dict[str, Tensor]:
        """Copies of the trained parameters that gradients can be taken by."""
        return {name: p.clone().requires_grad_() for name, p in self._trained.items()}

    def _evaluate(self) -> _EvaluationMode:
        return _EvaluationMode(self.network)

    def outputs(self, images: Tensor) -> Tensor:
        """f0(x), N × C."""
        with self._evaluate(), torch.no_grad():
            return self._call(self._trained, images)

    def jvp(self, images: Tensor, delta: Tensor) -> Tensor:
        """``J δ`` for a flat δ (P), N × C; forward mode, one pass, no graph."""
        tangent = self.layout.split(delta)
        with self._evaluate(), torch.no_grad():
            _, change = jvp(lambda w: self._call(w, images), (self._trained,), (tangent,))
        return change

    def vjp(self, images: Tensor, cotangent: Tensor) -> Tensor:
        """``Jᵀ c`` summed over samples for c (N × C): a flat vector (P)."""
        trained = self._leaves()
        with self._evaluate(), torch.enable_grad():
            outputs = self._call(trained, images)
        gradients = torch.autograd.grad(outputs, list(trained.values()), cotangent)
        return torch.cat([g.reshape(-1) for g in gradients])

    def pass_(
        self, images: Tensor, delta: Tensor, cotangent: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Outputs at δ and the gradient they call for, as one optimisation step needs them.

        Args:
            images: N × 3 × H × W.
            delta: δ, P.
            cotangent: maps the linearised outputs ``f0 + J δ`` (N × C) to c (N × C).

        Returns:
            The linearised outputs (N × C) and ``Jᵀ c`` (P).
        """
        trained = self._leaves()
        change = self.jvp(images, delta)
        with self._evaluate(), torch.enable_grad():
            primal = self._call(trained, images)
        outputs = primal.detach() + change
        gradients = torch.autograd.grad(primal, list(trained.values()), cotangent(outputs))
        return outputs, torch.cat([g.reshape(-1) for g in gradients])

    def jacobian(self, images: Tensor, batch: int = 64) -> Tensor:
        """``J`` of every sample, N × C × P; for problems small enough to hold it."""
        C = self.outputs(images[:1]).shape[1]
        result = images.new_empty(len(images), C, self.layout.size)
        layers = treatable(self.network, self.layout.names)
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            rows = None
            if layers is not None:
                with self._evaluate():
                    rows = per_sample_rows(
                        lambda part=part: self._call(self._leaves(), part),  # type: ignore[misc]
                        layers,
                        self.layout.names,
                    )
            result[start : start + batch] = self._vmapped_rows(part, C) if rows is None else rows
        return result

    def _vmapped_rows(self, images: Tensor, classes: int) -> Tensor:
        """J of any network ``torch.func`` can differentiate sample by sample, N × C × P."""

        def one(image: Tensor, row: Tensor) -> dict[str, Tensor]:
            def output(w: dict[str, Tensor]) -> Tensor:
                return self._call(w, image[None])[0] @ row

            return grad(output)(self._trained)

        eye = torch.eye(classes, dtype=images.dtype, device=images.device)
        with self._evaluate():
            named = [vmap(one, in_dims=(0, None))(images, row) for row in eye]
        rows = [torch.cat([n[k].flatten(1) for k in self.layout.names], 1) for n in named]
        return torch.stack(rows, 1)

    def gram(self, images: Tensor, others: Tensor | None = None, batch: int = 64) -> Tensor:
        """``J(x) J(x')ᵀ``, NC × MC (the tangent kernel), accumulated in blocks of samples."""
        others = images if others is None else others
        blocks = []
        for part in images.split(batch):
            rows = self.jacobian(part, batch).flatten(0, 1)
            across = [rows @ self.jacobian(o, batch).flatten(0, 1).T for o in others.split(batch)]
            blocks.append(torch.cat(across, 1))
        return torch.cat(blocks)


class _EvaluationMode:
    """Evaluation mode inside the block; every module's own mode after it, whatever happens."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __enter__(self) -> None:
        self._modes = [(module, module.training) for module in self._network.modules()]
        self._network.eval()

    def __exit__(self, *error: object) -> None:
        for module, training in self._modes:
            module.training = training
