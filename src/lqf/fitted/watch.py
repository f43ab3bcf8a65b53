"""One image is run through a network before anything is fitted, to refuse what could not be linearised."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lqf.jacobian import Linearized
from lqf.networks.weights import first_line

log = logging.getLogger(__name__)

_RELU = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu_}
_HALF = (torch.float16, torch.bfloat16)


class _Watch(TorchFunctionMode):
    """Sees the functions that a network calls.

    Args:
        original: the network that this one is a copy of; None if it is none.

    Attributes:
        half: whether something is computed in half precision.
        relus: calls of ReLU as a function.
        foreign: name of a parameter of the original that is computed with; empty if there is none.
    """

    def __init__(self, original: nn.Module | None = None) -> None:
        super().__init__()
        named = () if original is None else original.named_parameters()
        self._theirs = {id(parameter): name for name, parameter in named}
        self.half = False
        self.relus = 0
        self.foreign = ""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.half |= isinstance(result, Tensor) and result.dtype in _HALF
        self.relus += func in _RELU
        for argument in (*args, *(kwargs or {}).values()):
            self.foreign = self._theirs.get(id(argument), self.foreign)
        return result


def refuse_code(network: nn.Module) -> None:
    """Refuse networks whose derivative is not that of what they compute, or cannot be followed.

    Raises:
        ValueError: if a part is compiled, or a hook changes gradients.
    """
    for name, module in network.named_modules():
        where = f"{name or 'the network itself'} ({type(module).__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(  # noqa: TRY004  (whatever cannot be fitted is a ValueError)
                f"{where} is scripted or traced, and forward mode cannot follow compiled code; give the "
                "Python module it was made from."
            )
        if module._backward_hooks or module._backward_pre_hooks:
            raise ValueError(
                f"a hook on {where} changes gradients, so they are not derivatives of the outputs; remove "
                "the hook."
            )
    for name, parameter in network.named_parameters():
        if parameter._backward_hooks:
            raise ValueError(
                f"a hook on parameter {name!r} changes its gradient, which is then no derivative of the "
                "outputs; remove the hook."
            )


def trial_run(
    network: nn.Module,
    images: Tensor,
    outputs: int | None,
    *,
    tell: bool = False,
    original: nn.Module | None = None,
) -> None:
    """Refuse images that the network cannot take, outputs that are not C numbers, and changes in place.

    Args:
        network: the network, in evaluation mode.
        images: N × channels × H × W; one is tried.
        outputs: C; None takes what comes.
        tell: whether ReLUs that are called as functions, which no swap reaches, are told.
        original: the network that it is a copy of, if it is one.

    Raises:
        ValueError: if the network fails on one image, or does something that cannot be linearised.
    """
    name, image = type(network).__name__, images[:1].clone()
    watch = _Watch(original)
    try:
        with torch.no_grad(), watch:
            found = network(image)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"{name} cannot take images of shape {tuple(images.shape[1:])}: {first_line(error)}"
        ) from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 1:
        raise ValueError(
            f"{name} gives {shape} for one image; one row of outputs, (1, C), is needed."
        )
    if outputs is not None and found.shape[1] != outputs:
        raise ValueError(
            f"{name} gives {shape} for one image; (1, {outputs}) is needed: use head='random', or change "
            "classes."
        )
    if watch.foreign:
        raise ValueError(
            f"a copy of {name} still computes with parameter {watch.foreign!r} of the original, because a function "
            "put in the place of a forward, or a hook, holds a layer: write it as a method of the layer's class, "
            "or bind it to the layer with types.MethodType."
        )
    if watch.half:
        raise ValueError(
            f"{name} computes in half precision inside (autocast, or .half()), where J and Jᵀ would not "
            "agree; take that out of its forward."
        )
    if not torch.equal(image, images[:1]):
        raise ValueError(
            f"{name} changes its input in place; let its forward begin with x = x.clone()."
        )
    if not torch.isfinite(found).all():
        raise ValueError(
            f"{name}'s outputs are NaN or infinite; check its weights and the normalisation of the images."
        )
    if tell and watch.relus:
        log.warning(
            "%s calls ReLU as a function %d times, which stays; only modules nn.ReLU are replaced",
            name,
            watch.relus,
        )


def check_products(linearized: Linearized, images: Tensor) -> None:
    """Refuse a network whose Jδ and Jᵀc are not transposes of each other on one image.

    Raises:
        ValueError: if forward mode fails, or ``⟨c, Jδ⟩ ≠ ⟨Jᵀc, δ⟩``.
    """
    name, image = type(linearized.network).__name__, images[:1]
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(linearized.layout.size, generator=generator, dtype=torch.float64).to(image)
    try:
        change = linearized.jvp(image, delta)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} has no forward-mode derivative, which J δ needs ({first_line(error)}); replace that operation, "
            "or compute its output once and fit what comes after it."
        ) from error
    cotangent = torch.randn(change.shape, generator=generator, dtype=torch.float64).to(image)
    try:
        gradient = linearized.vjp(image, cotangent)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{name} cannot be differentiated: {first_line(error)}") from error
    left = float((cotangent.double() * change.double()).sum())
    right = float(gradient.double() @ delta.double())
    size = float(gradient.double().norm() * delta.double().norm())
    allowed = 30 * torch.finfo(image.dtype).eps ** 0.5
    if not abs(left - right) <= allowed * max(size / delta.numel() ** 0.5, abs(left)):
        raise ValueError(
            f"forward and backward derivatives of {name} disagree (⟨c, Jδ⟩ = {left:.6g}, ⟨Jᵀc, δ⟩ = "
            f"{right:.6g}): a custom autograd function or a hook changes one of them; remove it."
        )
