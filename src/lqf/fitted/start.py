"""The network at w0 as the estimator linearises it: prepared, folded, checked, and cast."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from lqf.fitted.prepare import prepare_network
from lqf.networks import fold_batch_norm, has_batch_norm

log = logging.getLogger(__name__)


def start_network(
    network: str | nn.Module,
    options: dict[str, Any],
    *,
    pretrained: bool = True,
    frozen: list[str] | None = None,
) -> tuple[nn.Module, list[str]]:
    """A private copy of the network at w0 with everything done to it that the options ask for.

    Args:
        network: a torchvision name, or a module, which is not changed.
        options: the estimator's parameters, by name.
        pretrained: load the weights of a named network.
        frozen: parameters of the network that are not trained; None reads their ``requires_grad``.

    Returns:
        The copy in evaluation mode, and the names of the parameters that are not trained, as they
        were before batch norm was folded.
    """
    # New layers draw their default initialisation before the seeded one takes its place.
    with torch.random.fork_rng(devices=[]):
        copy = prepare_network(
            network,
            options["classes"],
            head=options["head"],
            activation=options["activation"],
            slope=options["slope"],
            pooling=options["pooling"],
            seed=options["seed"],
            pretrained=pretrained,
        )
    if frozen is not None:
        for name, parameter in copy.named_parameters():
            parameter.requires_grad_(name not in frozen)
    frozen = [name for name, p in copy.named_parameters() if not p.requires_grad]
    return _folded(copy, options), frozen


def _folded(network: nn.Module, options: dict[str, Any]) -> nn.Module:
    """Returns the network with batch norm folded, where that is asked for and can be done.

    Raises:
        ValueError: if it was asked for and cannot be done.
    """
    fold = options["fold_batch_norm"]
    kept = options["head"] == "keep" and options["activation"] is None
    if not has_batch_norm(network) or fold is False or (fold is None and kept):
        return network
    try:
        return fold_batch_norm(network)
    except (TraceError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        said = f"torch.fx cannot trace {type(network).__name__} to fold its batch norm ({reason})"
        if fold:
            raise ValueError(f"{said}; use fold_batch_norm=None or False.") from error
        log.info("%s; it is frozen and keeps its parameters", said)
        return network


def trained_names(network: nn.Module, images: Tensor) -> list[str]:
    """The parameters to fit: those that require a gradient and have one.

    Parts that only training uses (auxiliary classifiers) have none; they are announced and stay.

    Args:
        network: the network, in evaluation mode.
        images: N × channels × H × W; one is tried.

    Returns:
        Their names.

    Raises:
        ValueError: if the outputs depend on none of them.
    """
    wanted = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        outputs = network(images[:1])
        found: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if outputs.requires_grad:
            found = torch.autograd.grad(
                outputs.sum(), list(wanted.values()), allow_unused=True, materialize_grads=False
            )
    used = [name for name, g in zip(wanted, found, strict=True) if g is not None]
    unused = [name for name in wanted if name not in used]
    if not used:
        raise ValueError(
            f"the outputs of {type(network).__name__} cannot be differentiated by any of its "
            "parameters; the network must not run under no_grad or detach its outputs."
        )
    if unused:
        log.info(
            "%d parameters do not influence the outputs and stay at w0: %s",
            len(unused),
            ", ".join(unused[:4]) + (", …" if len(unused) > 4 else ""),
        )
    return used
