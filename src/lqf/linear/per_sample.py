"""Rows of the Jacobian from one forward pass and C backward passes of a whole batch.

For a convolution or a linear layer the derivative by the weight is ``g aᵀ``: the gradient by
the layer's output times its input (patches).  A batch's backward pass yields g for every sample
at once, so no per-sample pass is needed.  A frozen batch norm multiplies g by its normalised
input.  Other layers are left to ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

from lqf.linear.layout import Layout

# The input of a layer, and where the gradient by its output is found, for each of its calls.
Call = tuple[Tensor, GradientEdge]
Records = dict[str, Call]


def treatable(network: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module] | None:
    """The layers that hold exactly the parameters ``names``, or None if others hold some."""
    layers = {}
    covered = set()
    for path, module in network.named_modules():
        own = {f"{path}.{n}" if path else n for n, _ in module.named_parameters(recurse=False)}
        if _known(module) and own & set(names):
            layers[path] = module
            covered |= own
    # Parameters are named once even if two modules share them; such networks are left alone.
    shared = len(list(network.named_parameters())) != len(
        list(network.named_parameters(remove_duplicate=False))
    )
    return layers if set(names) <= covered and not shared else None


def _known(module: nn.Module) -> bool:
    # Exact types: a subclass may compute something else (a re-parametrised weight, say).
    if type(module) is nn.Conv2d:
        plain = module.groups == 1 and module.padding_mode == "zeros"
        return plain and not isinstance(module.padding, str)
    if type(module) is nn.BatchNorm2d:
        return module.running_mean is not None
    return type(module) is nn.Linear


@contextmanager
def _records(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """What each call of each layer saw, while the block runs."""
    seen: dict[str, list[Call]] = {path: [] for path in layers}

    def recorder(path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            # The edge, not the output: an activation in place would put itself between the two.
            seen[path].append((inputs[0].detach(), get_gradient_edge(output)))

        return hook

    handles = []
    try:
        for path, layer in layers.items():
            handles.append(layer.register_forward_hook(recorder(path)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def recorded(
    call: Callable[[], Tensor], layers: dict[str, nn.Module]
) -> tuple[Tensor, Records | None]:
    """Outputs with their graph, and what each layer saw.

    Args:
        call: runs the network on a batch, with gradients by its parameters enabled.
        layers: layers by path.

    Returns:
        The outputs, and by path a layer's input and where the gradient by its output is found;
        None if a layer ran more than once or not at all.
    """
    with _records(layers) as seen, torch.enable_grad():
        outputs = call()
    if any(len(calls) != 1 for calls in seen.values()):
        return outputs, None
    return outputs, {path: calls[0] for path, calls in seen.items()}


def multiplied(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What the weight multiplies: N × S × inputs, or N × channels × S for a batch norm."""
    if isinstance(layer, nn.BatchNorm2d):
        mean, var = layer.running_mean, layer.running_var
        return F.batch_norm(inputs, mean, var, None, None, False, 0.0, layer.eps).flatten(2)
    if not isinstance(layer, nn.Conv2d):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])
    if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        down, across = layer.stride
        return inputs[:, :, ::down, ::across].flatten(2).mT
    size, dilation, padding, stride = (
        layer.kernel_size,
        layer.dilation,
        layer.padding,
        layer.stride,
    )
    return F.unfold(inputs, size, dilation, padding, stride).mT  # type: ignore[arg-type]


def by_weight(layer: nn.Module, g: Tensor, multiplied: Tensor) -> Tensor:
    """Per-sample gradients by the weight, N × entries; g is N × outputs × S."""
    if isinstance(layer, nn.BatchNorm2d):
        return (g * multiplied).sum(2)
    return torch.bmm(g, multiplied).flatten(1)


def positions_last(layer: nn.Module, gradient: Tensor) -> Tensor:
    """Gradient by the layer's output, N × outputs × S."""
    if isinstance(layer, nn.Linear):
        return gradient.reshape(len(gradient), -1, gradient.shape[-1]).mT
    return gradient.flatten(2)


def per_sample_rows(
    call: Callable[[], Tensor], layers: dict[str, nn.Module], layout: Layout, rows: Tensor
) -> bool:
    """Write J of one batch.

    Args:
        call: runs the network on the batch, with gradients by its parameters enabled.
        layers: the layers that hold the trained parameters, by path.
        layout: the trained parameters.
        rows: N × C × P, overwritten.

    Returns:
        Whether it was done: not if a layer ran more than once or not at all.
    """
    outputs, records = recorded(call, layers)
    if records is None:
        return False
    inputs = {path: multiplied(layers[path], seen) for path, (seen, _) in records.items()}
    edges = [edge for _, edge in records.values()]
    places = dict(zip(layout.names, rows.split(layout.sizes, 2), strict=True))
    for c in range(outputs.shape[1]):
        gradients = torch.autograd.grad(outputs[:, c].sum(), edges, retain_graph=True)
        for path, gradient in zip(records, gradients, strict=True):
            g = positions_last(layers[path], gradient)
            prefix = f"{path}." if path else ""
            if f"{prefix}weight" in places:
                row = by_weight(layers[path], g, inputs[path])
                places[f"{prefix}weight"][:, c] = row
            if f"{prefix}bias" in places:
                places[f"{prefix}bias"][:, c] = g.sum(2)
    return True
