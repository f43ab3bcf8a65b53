"""Pairs of a tensor with its graph and its tangent without one, carried through a network.

Forward mode of ``torch.func`` differentiated in reverse keeps the tangents' graph as well, at
nearly twice the memory.  For a linearised network that graph is not needed: the weights stay at
w0, so ``Jᵀ c`` is an ordinary backward pass of the frozen network.  A `Pair` therefore keeps the
graph of its primal only.  The network runs as written, in Python; every torch function that meets
a `Pair` is answered by a rule (`lqf.jacobian.rules`) or, where there is none, by forward-mode
differentiation of that one function.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from lqf.jacobian import tape

# rule(function, *args, **kwargs), or NotImplemented to leave the call to forward-mode AD.
Rule = Callable[..., Any]
# Computes primal and tangent.
Deferred = partial[tuple[Tensor, Tensor]]
RULES: dict[str, Rule] = {}

# Answered by the metadata of the pair itself.
_METADATA = {
    *("shape", "dtype", "device", "ndim", "layout", "is_cuda"),
    *("size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "__len__"),
}


class Unwalkable(RuntimeError):
    """A network does something that pairs cannot follow; it must be differentiated whole."""


class Pair(Tensor):
    """A tensor of the network at w0, and its derivative along δ.

    Both have one shape and one memory layout, and what shares memory with another primal has a
    tangent that shares it in the same way, so operations in place are followed exactly.

    Args:
        primal: the tensor, with its autograd graph if it has one.
        tangent: its derivative along δ, without a graph.
    """

    _primal: Tensor | None
    _tangent: Tensor | None
    deferred: Deferred | None

    @staticmethod
    def __new__(cls, primal: Tensor, tangent: Tensor) -> Self:
        """Make a pair; see the class."""
        self = _empty(cls, primal.shape, primal)
        self._primal, self._tangent, self.deferred = primal, _like(tangent, primal), None
        return self

    def __init__(self, primal: Tensor, tangent: Tensor) -> None:
        pass

    @classmethod
    def defer(cls, deferred: Deferred, shape: torch.Size, like: Tensor) -> Pair:
        """A pair that is computed when it is first needed."""
        self = _empty(cls, shape, like)
        self._primal, self._tangent, self.deferred = None, None, deferred
        return self

    def pair(self) -> tuple[Tensor, Tensor]:
        """Primal and tangent.

        Raises:
            Unwalkable: if a copy was made past torch's Python functions and holds neither.
        """
        if self._primal is None or self._tangent is None:
            if self.deferred is None:
                raise Unwalkable("a pair holds neither values nor the way to them.")
            with torch.enable_grad():  # it was called where gradients are on
                self._primal, tangent = self.deferred()
            self._tangent, self.deferred = _like(tangent, self._primal), None
        return self._primal, self._tangent

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = _name(func)
        if name in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if not torch.is_grad_enabled():
            # Reverse mode sees constants here, and so do we; but a custom autograd function, which
            # also runs like this, has a derivative that cannot be seen from its inside.
            if _in_custom_function():
                raise Unwalkable(f"{name} is called by a custom autograd function.")
            args, kwargs = tree_map(primal_of, (args, kwargs))
            return func(*args, **kwargs)
        rule = RULES.get(name)
        if rule is not None:
            result = rule(func, *args, **kwargs)
            if result is not NotImplemented:
                return result
        if writes(name, args, kwargs):
            return _in_place(name, func, args, kwargs)
        return forward_mode(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise Unwalkable(f"{func} is called past torch's Python functions.")


def _is_pair(value: Any) -> bool:
    return isinstance(value, Pair)


def primal_of(value: Any) -> Any:
    """The primal of a pair; anything else as it is."""
    return value.pair()[0] if isinstance(value, Pair) else value


def tangent_of(value: Any) -> Tensor | None:
    """The tangent of a pair; None for anything else."""
    return value.pair()[1] if isinstance(value, Pair) else None


@cache
def load_forward_mode() -> None:
    """Let torch load its rules, which tells users of a deprecation that is torch's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def forward_mode(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Any function of pairs that changes none of them, by torch's forward mode; the tangents' graph is dropped."""
    load_forward_mode()
    inputs, structure = tree_flatten((args, kwargs))
    pairs = [value.pair() for value in inputs if isinstance(value, Pair)]
    tape.reads(*(primal for primal, _ in pairs))
    with forward_ad.dual_level():
        values = [
            forward_ad.make_dual(*value.pair()) if isinstance(value, Pair) else value
            for value in inputs
        ]
        a, k = tree_unflatten(values, structure)
        outputs = func(*a, **k)

        def paired(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            primal, tangent = forward_ad.unpack_dual(value)
            if tangent is None:
                return primal
            return Pair(tape.once(lambda: primal), _own(primal, tangent, pairs))

        return tree_map(paired, outputs)


def writes(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call changes one of its arguments."""
    dunder = name.startswith("__")
    return (
        (name.endswith("_") and not dunder)
        or (
            dunder and name.startswith("__i") and name not in {"__invert__", "__index__", "__int__"}
        )
        or name == "__setitem__"
        or kwargs.get("inplace") is True
        or kwargs.get("out") is not None
    )


def _in_place(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation in place: on a copy, then copied back into primal and tangent.

    Raises:
        Unwalkable: if what is changed is not a pair.
    """
    target = args[0] if args else None
    if not isinstance(target, Pair) or kwargs.get("out") is not None or name == "__set__":
        raise Unwalkable(f"{name} writes a value that depends on δ into a tensor that does not.")
    primal, tangent = target.pair()
    if name == "__setitem__":
        tape.refuse("a part of a value is changed in place.")
        value = args[2]
        func(primal, args[1], primal_of(value))
        derivative = tangent_of(value)
        with torch.no_grad():
            func(tangent, args[1], 0 if derivative is None else derivative)
        return None
    # Functions may keep an argument for their backward pass, so they are given copies of all.
    copies = {
        id(a): Pair(tape.once(a.pair()[0].clone), a.pair()[1].clone()) for a in args if _is_pair(a)
    }
    copy, *others = [copies.get(id(a), a) for a in args]
    if kwargs.get("inplace") is True:
        result = func(copy, *others, **{**kwargs, "inplace": False})
    else:
        plain = f"__{name[3:]}" if name.startswith("__") else name.rstrip("_")
        result = getattr(Tensor, plain, None) or getattr(torch.nn.functional, plain)
        result = result(copy, *others, **kwargs)
    tape.once(lambda: primal.copy_(primal_of(result)))
    change = tangent_of(result)
    tangent.zero_() if change is None else tangent.copy_(change)
    return target


def _in_custom_function() -> bool:
    """Whether a ``forward`` of a custom autograd function is being run."""
    classes: list[Any] = [torch.autograd.Function]
    codes: set[Any] = set()
    while classes:
        classes.extend(classes.pop().__subclasses__())
        codes.update(getattr(c.forward, "__code__", None) for c in classes)
    frame = sys._getframe().f_back
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None


@cache
def _name(func: Any) -> str:
    """The name a function is known by; for the getter of an attribute, the attribute's."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in {"__get__", "__set__"}:
        attribute = getattr(func.__self__, "__name__", name)
        return attribute if name == "__get__" else "__set__"
    return name


def _empty(cls: type, shape: torch.Size, like: Tensor) -> Any:
    return Tensor._make_wrapper_subclass(cls, shape, dtype=like.dtype, device=like.device)


def _like(tangent: Tensor, primal: Tensor) -> Tensor:
    """The tangent, in the memory layout of its primal."""
    if tangent.stride() == primal.stride() or 0 in primal.stride():
        return tangent
    return tangent.new_empty_strided(primal.shape, primal.stride()).copy_(tangent)


def _own(primal: Tensor, tangent: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The tangent of a result: memory of its own, unless the primal shares its own too."""
    tangent = tangent.detach()
    for p, t in pairs:
        if _memory(t) == _memory(tangent) and _memory(p) != _memory(primal):
            return tangent.clone()
    if 0 in tangent.stride() and 0 not in primal.stride():
        return tangent.clone()
    return tangent


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
