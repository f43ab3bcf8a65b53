"""Rows of the Jacobian from one forward pass and C backward passes of a whole batch.

For a convolution or a linear layer the derivative by the weight is ``g aᵀ``: the gradient by
the layer's output times its input (patches).  A batch's backward pass yields g for every sample
at once, so no per-sample pass is needed; other layers are left to ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def treatable(network: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module] | None:
    """The layers that hold exactly the parameters ``names``, or None if others hold some."""
    layers = {}
    covered = set()
    for path, module in network.named_modules():
        plain = isinstance(module, nn.Conv2d) and module.groups == 1
        zeros = plain and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        own = {f"{path}.{n}" if path else n for n, _ in module.named_parameters(recurse=False)}
        if (zeros or isinstance(module, nn.Linear)) and own & set(names):
            layers[path] = module
            covered |= own
    # Parameters are named once even if two modules share them; such networks are left alone.
    shared = len(list(network.named_parameters())) != len(
        list(network.named_parameters(remove_duplicate=False))
    )
    return layers if set(names) <= covered and not shared else None


@contextmanager
def _records(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Inputs and outputs of each call of each layer, while the block runs."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in layers}

    def recorder(path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen[path].append((inputs[0].detach(), output))

        return hook

    handles = [layer.register_forward_hook(recorder(path)) for path, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each weight entry multiplies, N × inputs × S."""
    if isinstance(layer, nn.Conv2d):
        return F.unfold(
            inputs,
            layer.kernel_size,
            layer.dilation,
            layer.padding,
            layer.stride,  # type: ignore[arg-type]
        )
    return inputs.reshape(len(inputs), -1, inputs.shape[-1]).transpose(1, 2)


def _cotangents(layer: nn.Module, gradient: Tensor) -> Tensor:
    """Gradient by the layer's output, N × outputs × S."""
    if isinstance(layer, nn.Conv2d):
        return gradient.flatten(2)
    return gradient.reshape(len(gradient), -1, gradient.shape[-1]).transpose(1, 2)


def per_sample_rows(
    call: Callable[[], Tensor],
    layers: dict[str, nn.Module],
    names: tuple[str, ...],
) -> Tensor | None:
    """J of one batch, N × C × P.

    Args:
        call: runs the network on the batch, with gradients by its parameters enabled.
        layers: the layers that hold the trained parameters, by path.
        names: the trained parameters, in the order of δ.

    Returns:
        The rows, or None if a layer ran more than once or not at all.
    """
    with _records(layers) as seen, torch.enable_grad():
        outputs = call()
    if any(len(calls) != 1 for calls in seen.values()):
        return None
    records = {path: calls[0] for path, calls in seen.items()}
    patches = {path: _patches(layers[path], inputs) for path, (inputs, _) in records.items()}
    targets = [output for _, output in records.values()]
    rows = []
    for c in range(outputs.shape[1]):
        gradients = torch.autograd.grad(outputs[:, c].sum(), targets, retain_graph=True)
        named: dict[str, Tensor] = {}
        for path, gradient in zip(records, gradients, strict=True):
            g = _cotangents(layers[path], gradient)
            prefix = f"{path}." if path else ""
            named[f"{prefix}weight"] = g @ patches[path].transpose(1, 2)
            named[f"{prefix}bias"] = g.sum(2)
        rows.append(torch.cat([named[name].flatten(1) for name in names], 1))
    return torch.stack(rows, 1)
