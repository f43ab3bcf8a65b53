"""What a network does with its parameters, seen where it does it: calls of linear maps and scalings.

No type of module is believed.  A trained parameter that *is* the weight of one call of
``linear``, ``conv2d`` or a normalisation is recorded there, whatever module made the call; one that is
pruned, re-parametrised, shared or used as a function is not, and is left to `lqf.curvature.samples`.

A convolution or linear map turns its input into patches a, b × G × d × S, and the gradient by its output
into g, b × G × o × S: b samples, G groups, S positions.  The gradient of one sample is then

    weight: Σ_s g_s a_sᵀ  (o × d in every group)        bias: Σ_s g_s,

so that the bias is the weight of a constant input 1 (homogeneous coordinate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Geometry:
    """How a convolution reads its input, both numbers for rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class LayerCall:
    """One call of a convolution or linear map whose weight is a trained parameter.

    Attributes:
        weight: name of the weight.
        bias: name of the bias if that is trained.
        inputs: what it was applied to, b × …, detached.
        edge: where the gradient by its output appears.
        groups: G.
        outputs: o, per group.
        geometry: of a convolution; None for a linear map.
    """

    weight: str
    bias: str | None
    inputs: Tensor
    edge: GradientEdge
    groups: int
    outputs: int
    geometry: Geometry | None

    @property
    def names(self) -> tuple[str, ...]:
        """The trained parameters of the call."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def patches(self, rows: slice = slice(None)) -> Tensor:
        """What the weight multiplies, with a constant 1 if the bias is trained; b × G × d × S."""
        x = self.inputs[rows]
        if self.geometry is None:
            flat = x.reshape(len(x), 1, -1, x.shape[-1]).mT
        else:
            g = self.geometry
            if g.kernel == (1, 1) and g.padding == (0, 0):
                flat = x[:, :, :: g.stride[0], :: g.stride[1]].flatten(2)
            else:
                flat = F.unfold(x, g.kernel, g.dilation, g.padding, g.stride)
            flat = flat.reshape(len(x), self.groups, -1, flat.shape[-1])
        return flat if self.bias is None else F.pad(flat, (0, 0, 0, 1), value=1.0)

    def regrouped(self, gradient: Tensor) -> Tensor:
        """The gradient by the output as b × G × o × S."""
        if self.geometry is None:
            return gradient.reshape(len(gradient), 1, -1, gradient.shape[-1]).mT
        return gradient.reshape(len(gradient), self.groups, self.outputs, -1)

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """Parts of … × G × o × d by parameter, each … × its entries."""
        lead = matrix.shape[:-3]
        if self.bias is None:
            return {self.weight: matrix.reshape(*lead, -1)}
        return {
            self.weight: matrix[..., :-1].reshape(*lead, -1),
            self.bias: matrix[..., -1].reshape(*lead, -1),
        }


@dataclass(frozen=True)
class ScaleCall:
    """One call of a frozen normalisation: its output is ``γ · x̂ + β`` entry by entry.

    Attributes:
        weight: name of γ if that is trained.
        bias: name of β if that is trained.
        normalised: x̂, b × …, detached.
        edge: where the gradient by its output appears.
        axes: axes of x̂ that γ varies along.
    """

    weight: str | None
    bias: str | None
    normalised: Tensor
    edge: GradientEdge
    axes: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The trained parameters of the call."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)

    def rows(self, gradient: Tensor) -> dict[str, Tensor]:
        """Gradients of single samples by γ and β, each b × its entries."""
        others = [k for k in range(1, gradient.ndim) if k not in self.axes]
        found = {}
        for name, value in ((self.weight, gradient * self.normalised), (self.bias, gradient)):
            if name is not None:
                found[name] = (value.sum(others) if others else value).flatten(1)
        return found


class Calls(TorchFunctionMode):
    """Records, while it is active, the calls in which trained parameters are weights.

    Args:
        leaves: the trained parameters by name, as leaves of the graph of the run.
        samples: b; a call on anything but one row a sample is not recorded.
        skipped: parameters that are not recorded.

    Attributes:
        layers: calls by name of the weight.
        scales: calls by name of the first parameter.
        twice: parameters that were met in more than one call.
    """

    def __init__(self, leaves: dict[str, Tensor], samples: int, skipped: set[str]) -> None:
        super().__init__()
        self._names = {id(leaf): name for name, leaf in leaves.items() if name not in skipped}
        self._samples = samples
        self.layers: dict[str, LayerCall] = {}
        self.scales: dict[str, ScaleCall] = {}
        self.twice: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        reader = _READERS.get(func)
        if reader is not None and isinstance(result, Tensor) and result.requires_grad:
            reader(self, result, *args, **(kwargs or {}))
        return result

    def name(self, value: Any) -> str | None:
        """The name of a trained parameter; None for anything else."""
        return self._names.get(id(value)) if isinstance(value, Tensor) else None

    def by_sample(self, inputs: Tensor, result: Tensor) -> bool:
        """Whether a call has one row a sample."""
        return inputs.ndim > 1 and len(inputs) == len(result) == self._samples

    def add(self, call: LayerCall | ScaleCall) -> None:
        """Keep a call, or note that its parameters were met before."""
        known: list[LayerCall | ScaleCall] = [*self.layers.values(), *self.scales.values()]
        for each in known:
            self.twice |= set(each.names) & set(call.names)
        if isinstance(call, LayerCall):
            self.layers.setdefault(call.weight, call)
        else:
            self.scales.setdefault(call.names[0], call)


def _linear(calls: Calls, result: Tensor, input: Tensor, weight: Tensor, bias: Any = None) -> None:
    name = calls.name(weight)
    if name is not None and calls.by_sample(input, result):
        edge, inputs = get_gradient_edge(result), input.detach()
        calls.add(LayerCall(name, calls.name(bias), inputs, edge, 1, len(weight), None))


def _conv2d(
    calls: Calls,
    result: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    name = calls.name(weight)
    if name is None or input.ndim != 4 or not calls.by_sample(input, result):
        return
    kernel, dilation, inputs = tuple(weight.shape[2:]), _pair(dilation), input.detach()
    if padding == "valid":
        padding = 0
    elif padding == "same":  # may be uneven, which unfolding cannot be told
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        top, left = total[0] // 2, total[1] // 2
        inputs = F.pad(inputs, (left, total[1] - left, top, total[0] - top))
        padding = 0
    geometry = Geometry(kernel, _pair(stride), _pair(padding), dilation)  # type: ignore[arg-type]
    edge, outputs = get_gradient_edge(result), len(weight) // groups
    calls.add(LayerCall(name, calls.name(bias), inputs, edge, groups, outputs, geometry))


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


def _normalisation(function: Callable[..., Tensor]) -> Callable[..., None]:
    """The reader of a normalisation: x̂ is what it gives without γ and β."""
    parameters = tuple(signature(function).parameters)

    def read(calls: Calls, result: Tensor, *args: Any, **named: Any) -> None:
        given = dict(zip(parameters, args, strict=False)) | named
        names, x = (calls.name(given.get("weight")), calls.name(given.get("bias"))), given["input"]
        shape = given.get("normalized_shape")
        axes = (1,) if shape is None else tuple(range(x.ndim - len(shape), x.ndim))
        if given.get("training") or 0 in axes or not any(names) or not calls.by_sample(x, result):
            return
        plain = function(**{**given, "input": x.detach(), "weight": None, "bias": None})
        calls.add(ScaleCall(*names, plain, get_gradient_edge(result), axes))

    return read


# reader(calls, result, arguments of the function).
_READERS: dict[Any, Callable[..., None]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    torch.conv2d: _conv2d,
    **{f: _normalisation(f) for f in (F.batch_norm, F.layer_norm, F.group_norm)},
}
