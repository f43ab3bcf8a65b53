"""Kronecker factors that a job keeps, so that it does not compute them again after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lqf.checkpoint import state_of
from lqf.curvature import KroneckerFactors
from lqf.curvature.eigenbasis import Eigenbasis
from lqf.curvature.factors import KroneckerBlock, Provenance
from lqf.solve import Snapshot

#: Factors and their eigenvalue correction.
Curvature = tuple[KroneckerFactors, dict[str, Tensor]]

#: Seconds of work from which factors are worth their file, 1 GB for a ResNet-50.
WORTH = 30.0


def kept_curvature(
    work: object, place: torch.device, compute: Callable[[], Curvature]
) -> Curvature:
    """Factors of the running job, from the process before this one if it kept them.

    Args:
        work: tells these factors from others of the job: samples, parameters, probes.
        place: the device to put them on.
        compute: computes them.

    Returns:
        The factors with their eigenbases, and the correction.
    """
    state = state_of("curvature", work)
    known = state.load()
    if known is not None:
        tensors = {name: tensor.to(place) for name, tensor in known.tensors.items()}
        return _curvature(tensors, known.numbers)
    curvature = compute()
    if state.due(WORTH):
        state.keep(_snapshot(*curvature))
    return curvature


def _snapshot(factors: KroneckerFactors, correction: Mapping[str, Tensor]) -> Snapshot:
    tensors = {f"diagonal/{name}": tensor for name, tensor in factors.diagonal.items()}
    tensors |= {f"correction/{layer}": tensor for layer, tensor in correction.items()}
    for layer, block in factors.blocks.items():
        basis = factors.basis(layer)
        tensors |= {f"inputs/{layer}": block.inputs, f"B/{layer}": block.B}
        tensors |= {f"basis.{part}/{layer}": getattr(basis, part) for part in ("a", "A", "b", "B")}
    names = {
        layer: [block.weight, block.bias, block.root] for layer, block in factors.blocks.items()
    }
    return Snapshot(tensors, {"made": asdict(factors.made), "blocks": names})


def _curvature(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> Curvature:
    def part(kind: str) -> dict[str, Tensor]:
        prefix = f"{kind}/"
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    inputs, B = part("inputs"), part("B")
    bases = {name: part(f"basis.{name}") for name in ("a", "A", "b", "B")}
    blocks = {
        layer: KroneckerBlock(weight, bias, inputs[layer], B[layer], root)
        for layer, (weight, bias, root) in numbers["blocks"].items()
    }
    eigen = {
        layer: Eigenbasis(*(bases[name][layer] for name in ("a", "A", "b", "B")))
        for layer in blocks
    }
    made = {**numbers["made"], "names": tuple(numbers["made"]["names"])}
    return KroneckerFactors(blocks, part("diagonal"), Provenance(**made), eigen), part("correction")
