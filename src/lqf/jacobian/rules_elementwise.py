"""Sums, products and activations of pairs of primal and tangent (`lqf.jacobian.pairs`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lqf.jacobian import tape
from lqf.jacobian.pairs import Pair, Unwalkable, batched, primal_of, tangent_of
from lqf.jacobian.rules import rule

_aten = torch.ops.aten


@rule("add", "__add__", "__radd__")
def _add(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    return _sum(input, other, alpha)


@rule("sub", "__sub__", "subtract")
def _sub(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    return _sum(input, other, -alpha)


def _sum(x: Any, y: Any, alpha: float) -> Any:
    if not isinstance(x, Tensor):
        return NotImplemented
    primal = tape.primal(torch.add, primal_of(x), primal_of(y), alpha=alpha)
    dx, dy = tangent_of(x), tangent_of(y)
    with torch.no_grad():
        if dx is not None and dy is not None:
            return Pair(primal, torch.add(dx, dy, alpha=alpha))
        only: Any = dx if dy is None else alpha * dy
        return Pair(primal, only.expand_as(primal).clone())


@rule("add_", "__iadd__")
def _add_(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if not isinstance(input, Pair):
        raise Unwalkable("add_ writes a value that depends on δ into a tensor that does not.")
    primal, tangent = input.pair()
    tape.changed(lambda: primal.add_(primal_of(other), alpha=alpha))
    derivative = tangent_of(other)
    if derivative is not None:
        tangent.add_(derivative, alpha=alpha)
    return input


@rule("mul", "__mul__", "__rmul__", "multiply")
def _mul(func: Any, input: Any, other: Any) -> Any:
    x, y = primal_of(input), primal_of(other)
    primal = tape.primal(torch.mul, *((x, y) if isinstance(x, Tensor) else (y, x)))
    dx, dy = tangent_of(input), tangent_of(other)
    with torch.no_grad():
        if dx is None:
            return Pair(primal, x * dy)
        if dy is None:
            return Pair(primal, dx * y)
        return Pair(primal, torch.addcmul(x * dy, dx, y))


@rule("matmul", "__matmul__", "bmm", "mm")
def _matmul(func: Any, input: Any, other: Any) -> Any:
    x, y = primal_of(input), primal_of(other)
    primal = tape.primal(torch.matmul, x, y)
    dx, dy = tangent_of(input), tangent_of(other)
    with torch.no_grad():
        if dx is None:
            return Pair(primal, torch.matmul(x, dy))  # type: ignore[arg-type]
        if dy is None:
            return Pair(primal, torch.matmul(dx, y))
        return Pair(primal, torch.matmul(dx, y).add_(torch.matmul(x, dy)))


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def _dropout(
    func: Any, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    # Outside training it gives its input back.
    return NotImplemented if training else input


# Kernel(tangent, x before the activation, arguments of the activation) -> derivative times tangent.
# torch calls these backward kernels; the derivative of an element-wise function is diagonal.
Kernel = Callable[..., Tensor]


def _activation(*names: str, of_result: bool = False) -> Callable[[Kernel], Kernel]:
    """Register an activation by its kernel, out of place and in place.

    Args:
        names: the activation's functions.
        of_result: whether the kernel may be given the activation's result in the place of x.
    """

    def register(kernel: Kernel) -> Kernel:
        @rule(*names, *(f"{name}_" for name in names))
        def apply(func: Any, input: Any, *args: Any, **named: Any) -> Any:
            x, dx = input.pair()
            kept = {k: v for k, v in named.items() if k != "inplace"}
            in_place = named.get("inplace", False) or func.__name__.endswith("_")
            positional = [a for a in args if not isinstance(a, bool)]
            if len(positional) != len(args):
                return NotImplemented  # `inplace` by position
            with torch.no_grad():
                if in_place:
                    seen = x.detach() if of_result else tape.before(x.detach())
                    kernel(dx, seen, *args, out=dx, **kept)
                else:
                    tangent = kernel(dx, x.detach(), *args, **kept)
            if in_place:
                tape.changed(lambda: func(x, *args, **named))
                return input
            return Pair(tape.primal(func, x, *args, **named), tangent)

        return kernel

    return register


def _run(overloads: Any, out: Tensor | None, *args: Any, **named: Any) -> Tensor:
    if out is None:
        return overloads.default(*args, **named)
    if batched(out):
        return out.copy_(overloads.default(*args, **named))
    return overloads.grad_input(*args, grad_input=out, **named)


@_activation("relu", of_result=True)
def _relu(t: Tensor, x: Tensor, *, out: Tensor | None = None) -> Tensor:
    return _run(_aten.threshold_backward, out, t, x, 0)


@_activation("leaky_relu", of_result=True)
def _leaky_relu(
    t: Tensor, x: Tensor, negative_slope: float = 0.01, *, out: Tensor | None = None
) -> Tensor:
    return _run(_aten.leaky_relu_backward, out, t, x, negative_slope, False)


@_activation("relu6", of_result=True)
def _relu6(t: Tensor, x: Tensor, *, out: Tensor | None = None) -> Tensor:
    return _run(_aten.hardtanh_backward, out, t, x, 0.0, 6.0)


@_activation("hardtanh", of_result=True)
def _hardtanh(
    t: Tensor, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, *, out: Tensor | None = None
) -> Tensor:
    return _run(_aten.hardtanh_backward, out, t, x, min_val, max_val)


@_activation("silu")
def _silu(t: Tensor, x: Tensor, *, out: Tensor | None = None) -> Tensor:
    return _run(_aten.silu_backward, out, t, x)


@_activation("hardswish")
def _hardswish(t: Tensor, x: Tensor, *, out: Tensor | None = None) -> Tensor:
    if out is None:
        return _aten.hardswish_backward.default(t, x)
    if batched(out):
        return out.copy_(_aten.hardswish_backward.default(t, x))
    return _aten.hardswish_backward.out(t, x, out=out)


@_activation("gelu")
def _gelu(t: Tensor, x: Tensor, *, approximate: str = "none", out: Tensor | None = None) -> Tensor:
    return _run(_aten.gelu_backward, out, t, x, approximate=approximate)
