"""How the common layers act on a pair of primal and tangent (`lqf.jacobian.pairs`).

Each rule computes the primal once, with its graph, and the tangent with as few kernels as there
are, without one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lqf.jacobian import tape
from lqf.jacobian.pairs import RULES, Pair, Rule, primal_of, tangent_of

_aten = torch.ops.aten


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under the names of the functions it answers."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _affine(func: Any, x: Any, weight: Any, bias: Any, rest: Any, named: Any) -> Any:
    """Primal and tangent of a function linear in x and in (weight, bias)."""
    px, pw, pb = primal_of(x), primal_of(weight), primal_of(bias)
    primal = tape.primal(func, px, pw, pb, *rest, **named)
    dx, dw, db = tangent_of(x), tangent_of(weight), tangent_of(bias)
    with torch.no_grad():
        tangent: Tensor | None = None
        if dw is not None:
            tangent = func(px, dw, db, *rest, **named)
        if dx is not None:
            term = func(dx, pw, None if dw is not None else db, *rest, **named)
            tangent = term if tangent is None else tangent.add_(term)
        if tangent is None:
            shape = (-1,) if func is F.linear else (-1, *[1] * (primal.dim() - 2))
            tangent = db.reshape(shape).expand_as(primal).clone()  # type: ignore[union-attr]
    return primal, tangent


@rule("linear")
def _linear(func: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    return Pair(*_affine(F.linear, input, weight, bias, (), {}))


@rule("conv1d", "conv2d", "conv3d")
def _convolution(
    func: Any, input: Any, weight: Any, bias: Any = None, *rest: Any, **named: Any
) -> Any:
    px, pw = primal_of(input), primal_of(weight)
    if px.dim() != pw.dim() or not isinstance(px, Tensor) or px.dtype != pw.dtype:
        return NotImplemented
    shape = func(px.detach().to("meta"), pw.detach().to("meta"), None, *rest, **named).shape
    # Not computed yet: a frozen batch norm after it may go into its weights.
    return Pair.defer(partial(_affine, func, input, weight, bias, rest, named), shape, px)


@rule("batch_norm")
def _batch_norm(
    func: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    before = input.deferred if isinstance(input, Pair) else None
    if training or before is None or type(running_var) is not Tensor:
        return NotImplemented
    conv, x, kernel, offset, rest, named = before.args
    # Scaling the weights costs by their number, normalising the result by its size.
    if kernel.numel() > input.numel():
        return NotImplemented
    scale = (running_var + eps).rsqrt()
    factor = scale if weight is None else weight * scale
    shift = -running_mean if offset is None else offset - running_mean
    shift = shift * factor if bias is None else bias + shift * factor
    kernel = kernel * factor.reshape(-1, *[1] * (kernel.dim() - 1))
    return conv(x, kernel, shift, *rest, **named)


@rule("add", "__add__", "__radd__", "sub", "__sub__", "subtract")
def _add(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if not isinstance(input, Tensor):
        return NotImplemented
    alpha = -alpha if "sub" in func.__name__ else alpha
    primal = tape.primal(torch.add, primal_of(input), primal_of(other), alpha=alpha)
    dx, dy = tangent_of(input), tangent_of(other)
    with torch.no_grad():
        if dx is not None and dy is not None:
            return Pair(primal, torch.add(dx, dy, alpha=alpha))
        only: Any = dx if dy is None else alpha * dy
        return Pair(primal, only.expand_as(primal).clone())


@rule("relu", "relu_", "leaky_relu", "leaky_relu_")
def _relu(func: Any, input: Any, *rest: Any, **named: Any) -> Any:
    if rest:
        return NotImplemented
    x, dx = input.pair()
    slope = named.get("negative_slope", 0.01) if "leaky" in func.__name__ else 0.0
    derivative = _aten.leaky_relu_backward
    if named.get("inplace", False) or func.__name__.endswith("_"):
        # The derivative can be read from the result as well, which x holds in a repeated run.
        with torch.no_grad():
            derivative.grad_input(dx, x.detach(), slope, False, grad_input=dx)
        tape.once(lambda: func(x, **named))
        return input
    with torch.no_grad():
        tangent = derivative(dx, x.detach(), slope, False)
    return Pair(tape.primal(func, x, **named), tangent)
