"""Which parameter gets which block, decided by watching the network run on two images."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lqf.curvature.layers import Layer, Treated
from lqf.curvature.owner import Owner
from lqf.curvature.recording import Record, forward, leaves
from lqf.linear.images import Images

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The blocks of the Gauss–Newton approximation.

    Attributes:
        layers: layers with a Kronecker block.
        owners: modules whose other trained parameters get a diagonal block.
    """

    layers: tuple[Layer, ...]
    owners: tuple[Owner, ...]

    @property
    def parts(self) -> tuple[Layer | Owner, ...]:
        """Layers and owners."""
        return (*self.layers, *self.owners)

    @property
    def paths(self) -> list[str]:
        """Names of all modules to record."""
        return [part.path for part in self.parts]

    def announce(self) -> None:
        """Log which parameters have no Kronecker block."""
        for owner in self.owners:
            _LOG.info(
                "no Kronecker block for %s in %s %r: diagonal block",
                ", ".join(owner.names),
                type(owner.module).__name__,
                owner.path or "network",
            )


def make_plan(network: nn.Module, names: tuple[str, ...], images: Images) -> Plan:
    """Assign every trained parameter to a Kronecker block or to an announced diagonal block.

    Args:
        network: the network.
        names: the trained parameters.
        images: N × ...; the first and the last show which modules run, and how often.

    Returns:
        The plan. A trial backward pass has shown that the blocks see the whole gradient.

    Raises:
        ValueError: if a parameter is unknown, shared between modules, used in a module that runs
            more than once, or used outside the module that holds it.
    """
    _check_names(network, names)
    modules = dict(network.named_modules())
    parameters = leaves(network, names)
    pair = torch.stack([images[0], images[-1]]).to(next(iter(parameters.values())))
    record = forward(network, parameters, pair, list(modules))
    layers: dict[str, dict[str, str]] = {}
    owners: dict[str, list[str]] = {}
    for name in names:
        path, _, local = name.rpartition(".")
        if record.counts[path] > 1:
            raise ValueError(
                f"Module {path!r} runs {record.counts[path]} times in one forward pass; its "
                "curvature is not a Kronecker product: give each use its own copy of the module, "
                f"or leave {name!r} out of the trained parameters."
            )
        treatable = isinstance(modules[path], Treated) and local in ("weight", "bias")
        if treatable and _by_sample(record, path, len(pair)):
            layers.setdefault(path, {})[local] = name
        else:
            owners.setdefault(_owner(record, path, name, len(pair)), []).append(name)
    plan = Plan(
        tuple(
            Layer(path, cast(Treated, modules[path]), named.get("weight"), named.get("bias"))
            for path, named in layers.items()
        ),
        tuple(Owner(path, modules[path], tuple(owned)) for path, owned in owners.items()),
    )
    for part in plan.parts:
        record.unchanged_input(part.path)
    with torch.autocast(pair.device.type, enabled=False):
        _check_whole_gradient(plan, record, names)
    return plan


def _check_names(network: nn.Module, names: tuple[str, ...]) -> None:
    known = dict(network.named_parameters())
    aliases: dict[int, list[str]] = {}
    # A module with two names is visited once; only two modules share a parameter.
    for path, module in network.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append(f"{path}.{key}" if path else key)
    if not names:
        raise ValueError("names is empty; at least one trained parameter is needed.")
    for name in names:
        if name not in known:
            raise ValueError(
                f"The network has no parameter {name!r}; its parameters are "
                f"{_some(known)} (as in named_parameters())."
            )
        same = aliases[id(known[name])]
        if len(same) > 1:
            raise ValueError(
                f"Parameter {name!r} is shared: it is also {_some(same[1:])}; its curvature is not "
                "a Kronecker product: give each module its own copy, or do not train it."
            )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def _by_sample(record: Record, path: str, samples: int) -> bool:
    """Return whether the module ran once, from tensors to a tensor, one row a sample.

    Returns:
        True if so.
    """
    if record.counts[path] != 1:
        return False
    call = record.calls[path]
    tensors = call.tensors
    if call.edge is None or not tensors or not isinstance(call.output, Tensor):
        return False
    return all(t.ndim > 1 and len(t) == samples for t in (*tensors, call.output))


def _owner(record: Record, path: str, name: str, samples: int) -> str:
    """Return the innermost module around a parameter that maps each sample by itself.

    Returns:
        Its name, "" for the network.

    Raises:
        ValueError: if there is none, or it runs more than once.
    """
    while True:
        if record.counts[path] > 1:
            raise ValueError(
                f"Module {path!r}, which uses parameter {name!r}, runs {record.counts[path]} times "
                "in one forward pass; give each use its own copy of the module, or do not train it."
            )
        if _by_sample(record, path, samples):
            return path
        if not path:
            raise ValueError(
                f"Parameter {name!r} does not influence the outputs sample by sample, so it has no "
                "curvature block; leave it out of the trained parameters."
            )
        path = path.rpartition(".")[0]


def _check_whole_gradient(plan: Plan, record: Record, names: tuple[str, ...]) -> None:
    """Refuse a network in which the blocks miss a part of the gradient.

    A weight used outside its module's call (or in a changed `forward`) would give a wrong block
    without an error; the gradient that the blocks see is compared with autograd's.

    Raises:
        ValueError: if they differ.
    """
    probe = torch.ones_like(record.outputs)
    probe[:, 1::2] = -1
    targets = [record.parameters[name] for name in names]
    whole = torch.autograd.grad(
        record.outputs, targets, probe, retain_graph=True, allow_unused=True
    )
    edges = [record.calls[part.path].edge for part in plan.parts]
    present = [
        (part, edge) for part, edge in zip(plan.parts, edges, strict=True) if edge is not None
    ]
    found = torch.autograd.grad(
        record.outputs, [edge for _, edge in present], probe, retain_graph=True, allow_unused=True
    )
    seen: dict[str, Tensor] = {}
    rounding: dict[str, Tensor] = {}
    for (part, _), gradient in zip(present, found, strict=True):
        if gradient is not None:
            rows = part.sample_gradients(record, gradient)
            seen.update({name: value.sum(0) for name, value in rows.items()})
            # A sum that cancels, as that of a bias before a centring, is nothing but rounding.
            noise = 10 * torch.finfo(gradient.dtype).eps * gradient.abs().sum()
            rounding.update(dict.fromkeys(rows, noise))
    for name, expected in zip(names, whole, strict=True):
        if expected is None:
            raise ValueError(
                f"Parameter {name!r} does not influence the outputs; leave it out of the trained "
                "parameters."
            )
        allowed = torch.finfo(expected.dtype).eps ** 0.5 * 10
        error = (seen[name] - expected).norm() if name in seen else expected.norm()
        least = rounding.get(name, 0.0)
        if not bool(error <= allowed * (expected.norm() + expected.abs().max()) + least):
            raise ValueError(
                f"Parameter {name!r} is used outside the call of its module, or its module's "
                "forward is not the layer's own; its curvature block would be wrong: use the "
                "module itself, or leave the parameter out of the trained ones."
            )
