"""How the common layers act on a pair of primal and tangent (`lqf.jacobian.pairs`).

Each rule computes the primal once, with its graph, and the tangent with as few kernels as there
are, without one.  The derivative of an element-wise function, and of a normalisation, is a
symmetric matrix, so their tangents are torch's own backward kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lqf.jacobian import tape
from lqf.jacobian.pairs import RULES, Pair, Rule, batched, primal_of, tangent_of

_aten = torch.ops.aten

# Positions from which products of matrices beat a 1 × 1 convolution on the CPU.
_LARGE_MAP = 64


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
        many = dx is not None and batched(dx)  # vmap has no rule for the products in place
        pointwise = not many and _is_pointwise(px, pw, primal, rest, named)
        if dw is not None and dx is not None and pointwise:
            return primal, _pointwise(px, pw, dx, dw, db).view_as(primal)
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


def _is_pointwise(x: Tensor, weight: Tensor, y: Tensor, rest: Any, named: Any) -> bool:
    """Whether a call is a 1 × 1 convolution of large maps on the CPU.

    There two products of matrices need half the time of two convolutions, which change the memory
    layout of their inputs and outputs; on small maps the convolutions are the faster ones.
    """
    return (
        x.dim() == 4
        and not x.is_cuda
        and x.shape[2:] == y.shape[2:]
        and x[0, 0].numel() >= _LARGE_MAP
        and weight.shape[1:] == (x.shape[1], 1, 1)
        and x.is_contiguous()
        and not _padded(*rest, **named)
    )


def _padded(stride: Any = 1, padding: Any = 0, *rest: Any, **named: Any) -> bool:
    # Maps of one size before and after leave padding and stride to cancel each other only.
    return padding not in {0, (0, 0), "valid"}


def _pointwise(x: Tensor, weight: Tensor, dx: Tensor, dw: Tensor, db: Tensor | None) -> Tensor:
    """``dW x + W dx + db`` at every position, N × outputs × S."""
    N, wide = len(x), (len(x), *weight.shape[:2])
    first = dw.flatten(1).expand(wide)
    if db is None:
        tangent = torch.bmm(first, x.flatten(2))
    else:
        tangent = torch.baddbmm(db[:, None].expand(N, -1, 1), first, x.flatten(2))
    return tangent.baddbmm_(weight.flatten(1).expand(wide), dx.flatten(2))


@rule("linear")
def _linear(func: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    return Pair(*_affine(F.linear, input, weight, bias, (), {}))


class _Convolution:
    """A convolution not computed yet: a frozen batch norm after it may go into its weights."""

    def __init__(self, func: Any, x: Any, weight: Any, bias: Any, rest: Any, named: Any) -> None:
        self.call = (func, x, weight, bias, rest, named)

    def __call__(self) -> tuple[Tensor, Tensor]:
        return _affine(*self.call)


@rule("conv1d", "conv2d", "conv3d")
def _convolution(
    func: Any, input: Any, weight: Any, bias: Any = None, *rest: Any, **named: Any
) -> Any:
    px, pw = primal_of(input), primal_of(weight)
    if px.dim() != pw.dim() or not isinstance(px, Tensor) or px.dtype != pw.dtype:
        return NotImplemented
    shape = func(px.detach().to("meta"), pw.detach().to("meta"), None, *rest, **named).shape
    return Pair.defer(_Convolution(func, input, weight, bias, rest, named), shape, px)


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
    statistics = isinstance(running_mean, Tensor) and isinstance(running_var, Tensor)
    if (
        training
        or not statistics
        or isinstance(running_mean, Pair)
        or isinstance(running_var, Pair)
    ):
        return NotImplemented
    scale = (running_var + eps).rsqrt()
    before = input.deferred if isinstance(input, Pair) else None
    if isinstance(before, _Convolution):
        conv, x, kernel, offset, rest, named = before.call
        # Scaling the weights costs by their number, normalising the result by its size.
        if kernel.numel() <= input.numel():
            factor = scale if weight is None else weight * scale
            shift = -running_mean if offset is None else offset - running_mean
            shift = shift * factor if bias is None else bias + shift * factor
            kernel = kernel * factor.reshape(-1, *[1] * (kernel.dim() - 1))
            return conv(x, kernel, shift, *rest, **named)
    x, gamma, beta = primal_of(input), primal_of(weight), primal_of(bias)
    primal = tape.primal(
        F.batch_norm, x, running_mean, running_var, gamma, beta, False, momentum, eps
    )
    dx, dgamma, dbeta = tangent_of(input), tangent_of(weight), tangent_of(bias)
    with torch.no_grad():
        shape = (1, -1, *[1] * (x.dim() - 2))
        tangent: Tensor | None = None
        if dgamma is not None:
            tangent = F.batch_norm(x, running_mean, running_var, dgamma, dbeta, False, 0.0, eps)
        elif dbeta is not None:
            tangent = dbeta.reshape(shape).expand_as(x).clone()
        if dx is not None:
            factor = (scale if gamma is None else gamma * scale).reshape(shape)
            if tangent is None:
                tangent = dx * factor
            elif batched(dx):
                tangent = tangent + dx * factor
            else:
                tangent.addcmul_(dx, factor)
    return Pair(primal, tangent)  # type: ignore[arg-type]


@rule("layer_norm")
def _layer_norm(
    func: Any,
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    *rest: Any,
    **named: Any,
) -> Any:
    eps = named.get("eps", rest[0] if rest else 1e-5)
    shape = list(normalized_shape)
    x, gamma = primal_of(input), primal_of(weight)
    normalise = torch.native_layer_norm
    primal, mean, rstd = tape.primal(normalise, x, shape, gamma, primal_of(bias), eps)
    with torch.no_grad():
        dx = tangent_of(input)
        inner = None
        if dx is not None:
            mask = [True, False, False]
            inner = _aten.native_layer_norm_backward(dx, x, shape, mean, rstd, None, None, mask)[0]
        dgamma, dbeta = tangent_of(weight), tangent_of(bias)
        normalised = None
        if dgamma is not None:
            normalised = F.layer_norm(x, shape, dgamma, dbeta, eps)
            dbeta = None
        return Pair(primal, _scaled(primal, inner, gamma, normalised, dbeta))


@rule("group_norm")
def _group_norm(
    func: Any,
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    *rest: Any,
    **named: Any,
) -> Any:
    eps = named.get("eps", rest[0] if rest else 1e-5)
    x, gamma, beta = primal_of(input), primal_of(weight), primal_of(bias)
    x = x.contiguous()
    N, C = x.shape[:2]
    sizes = (N, C, x[0, 0].numel(), num_groups)
    primal, mean, rstd = tape.primal(torch.native_group_norm, x, gamma, beta, *sizes, eps)
    with torch.no_grad():
        dx, dgamma, dbeta = tangent_of(input), tangent_of(weight), tangent_of(bias)
        shape = (1, -1, *[1] * (x.dim() - 2))
        inner = None
        if dx is not None:
            mask = [True, False, False]
            inner = _aten.native_group_norm_backward(
                dx.contiguous(), x, mean, rstd, None, *sizes, mask
            )[0]
        normalised = None
        if dgamma is not None:
            normalised, dbeta = F.group_norm(x, num_groups, dgamma, dbeta, eps), None
        wide = None if gamma is None else gamma.reshape(shape)
        shift = None if dbeta is None else dbeta.reshape(shape)
        return Pair(primal, _scaled(primal, inner, wide, normalised, shift))


def _scaled(
    primal: Tensor, inner: Tensor | None, gamma: Any, outer: Tensor | None, shift: Any
) -> Tensor:
    """``γ · inner + outer + shift``, where each may be missing."""
    if inner is not None and gamma is not None:
        inner = inner * gamma if outer is None else torch.addcmul(outer, inner, gamma)
    elif inner is not None and outer is not None:
        inner = inner + outer
    total = outer if inner is None else inner
    if shift is None:
        return torch.zeros_like(primal) if total is None else total
    return shift.expand_as(primal).clone() if total is None else total + shift
