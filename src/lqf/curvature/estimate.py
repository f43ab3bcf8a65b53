"""EKFAC of the Gauss–Newton matrix at w0 (George et al. 2018), in two passes over the data.

``G = (1/N) Σ_i J_iᵀ J_i``, a mean over samples of a sum over outputs, is approximated block by block.
The block of a convolution or linear map is taken to be diagonal in the eigenbasis of its Kronecker
factors A ("expand" of Eschenhagen et al. 2023) and B:

    A = (1/NS) Σ_i Σ_s a_s a_sᵀ = U_A · U_Aᵀ       B = (1/N) Σ_i E_v Σ_s g_s g_sᵀ = U_B · U_Bᵀ,

and its eigenvalues are the second moments of the gradients themselves in that basis,
``E = (1/N) Σ_i E_v (U_Bᵀ (Σ_s g_s a_sᵀ) U_A)²``, so that the block keeps its trace.  All other parameters
keep the diagonal of G.  Gradients are those of vᵀf for output probes v with E[vvᵀ] = I: the curvature
sees images and never labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lqf.curvature.calls import LayerCall
from lqf.curvature.eigenbasis import decompose
from lqf.curvature.moments import WIDE, InputMoment
from lqf.curvature.samples import Batch, Gradients, SampleGradients
from lqf.jacobian.images import Images
from lqf.memory import AtOnce

#: Gradients that the curvature is estimated from: all C outputs of a sample where there are few samples,
#: as few as one random probe of each where there are many.
GRADIENTS = 256

# Entries of the gradients of single samples that are held at a time.
_CHUNK = 1 << 24


@dataclass(frozen=True)
class LayerCurvature:
    """The block of one convolution or linear map, whose increments are a matrix o × d in G groups.

    Attributes:
        names: its parameters, the weight's before the bias's, which is the last column.
        A: eigenvectors of the inputs' moment, G × d × r; thin (r < d) for wide layers.
        B: eigenvectors of the gradients' moment, G × o × o; None (the identity) for wide layers.
        values: E, G × o × r.
        rest: mean eigenvalue on what a thin basis leaves out.
    """

    names: tuple[str, ...]
    A: Tensor
    B: Tensor | None
    values: Tensor
    rest: float = 0.0

    def turned(self, g: Tensor) -> Tensor:
        """``U_Bᵀ g`` for g, … × G × o × S."""
        return g if self.B is None else self.B.mT @ g

    def back(self, g: Tensor) -> Tensor:
        """``U_B g`` for g, … × G × o × S."""
        return g if self.B is None else self.B @ g

    @property
    def thin(self) -> bool:
        """Whether the basis of the inputs leaves directions out."""
        return self.A.shape[1] > self.A.shape[2]


@dataclass(frozen=True)
class Curvature:
    """A block-diagonal approximation of the Gauss–Newton matrix at w0.

    Attributes:
        layers: blocks by name of the weight.
        diagonal: the diagonal for all other parameters, by name, flat.
        passes: what it cost, in passes over the samples.
    """

    layers: dict[str, LayerCurvature]
    diagonal: dict[str, Tensor]
    passes: float

    @property
    def mean(self) -> float:
        """Mean eigenvalue over all parameters, the natural unit of ε."""
        total, count = 0.0, 0
        for block in self.layers.values():
            (G, d, r), o = block.A.shape, block.values.shape[1]
            total += float(block.values.double().sum()) + block.rest * G * o * (d - r)
            count += G * o * d
        for values in self.diagonal.values():
            total, count = total + float(values.double().sum()), count + values.numel()
        return total / count


def probes(samples: int, outputs: int, seed: int) -> Tensor | None:
    """Random signs, K × N × C, int8; None where all C outputs are as cheap."""
    count = math.ceil(GRADIENTS / samples)
    if count >= outputs:
        return None
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (count, samples, outputs), generator=generator, dtype=torch.int8)
    return 2 * bits - 1


def estimate(
    samples: SampleGradients, images: Images, *, seed: int = 0, batch: int | AtOnce = 64
) -> Curvature:
    """The curvature of a network at w0.

    Args:
        samples: how gradients of single samples are found.
        images: N × 3 × H × W, as the network takes them.
        seed: of the probes.
        batch: images at once; halved where memory runs out.

    Returns:
        The curvature, in the precision of the network.

    Raises:
        ValueError: if a factor is NaN or infinite; names the layer.
    """
    at_once = AtOnce(batch, "the curvature") if isinstance(batch, int) else batch
    outputs = samples.linearized.outputs(images[:1]).shape[1]
    drawn = probes(len(images), outputs, seed)

    def both(size: int) -> Curvature:
        return samples.run(lambda: _estimate(samples, images, drawn, seed, size))

    with torch.autocast(images.device.type, enabled=False):
        return at_once.run(both, len(images))


def _estimate(
    samples: SampleGradients, images: Images, drawn: Tensor | None, seed: int, size: int
) -> Curvature:
    N = len(images)
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, InputMoment] = {}
    moments: dict[str, Tensor] = {}
    names: dict[str, tuple[str, ...]] = {}
    start = 0
    for batch in samples.batches(images, size):
        for weight, call in batch.layers.items():
            names[weight] = call.names
            inputs.setdefault(weight, InputMoment(N, generator)).add(call)
        for gradients, share in _gradients(batch, drawn, start):
            for weight, g in gradients.layers.items():
                if g.shape[2] > WIDE:
                    continue
                rows = g.permute(1, 2, 0, 3).flatten(2)
                _add(moments, weight, rows @ rows.mT * (share / N))
        start += len(batch.outputs)
    bases = {
        weight: LayerCurvature(
            names[weight],
            moment.basis(weight),
            decompose(moments[weight], f"B of {weight}")[1] if weight in moments else None,
            torch.empty(0),
        )
        for weight, moment in inputs.items()
    }
    values: dict[str, Tensor] = {}
    traces: dict[str, Tensor] = {}
    diagonal: dict[str, Tensor] = {}
    start = 0
    for batch in samples.batches(images, size):
        for gradients, share in _gradients(batch, drawn, start):
            for weight, g in gradients.layers.items():
                call = batch.layers[weight]
                value, trace = _squares(call, g, bases[weight])
                _add(values, weight, value * (share / N))
                _add(traces, weight, trace * (share / N))
            for name, rows in gradients.rows.items():
                _add(diagonal, name, rows.square().sum(0) * (share / N))
        start += len(batch.outputs)
    layers = {}
    for weight, basis in bases.items():
        (G, d, r), o = basis.A.shape, values[weight].shape[1]
        missing = float(traces[weight].double() - values[weight].double().sum())
        rest = max(0.0, missing) / (G * o * (d - r)) if basis.thin else 0.0
        layers[weight] = replace(basis, values=values[weight], rest=rest)
    for name, value in ({w: b.values for w, b in layers.items()} | diagonal).items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the curvature of {name} is NaN or infinite; check the weights and the images."
            )
    count = batch.outputs.shape[1] if drawn is None else len(drawn)
    return Curvature(layers, diagonal, 2 * (1 + 2 * count) / 3)


def _gradients(batch: Batch, drawn: Tensor | None, start: int) -> Iterator[tuple[Gradients, float]]:
    """The gradients of a batch for every probe, with the probe's weight in the sum."""
    outputs = batch.outputs
    for k in range(outputs.shape[1] if drawn is None else len(drawn)):
        if drawn is None:
            probe = torch.zeros_like(outputs)
            probe[:, k] = 1.0
            yield batch.gradients(probe), 1.0
        else:
            part = drawn[k, start : start + len(outputs)]
            yield batch.gradients(part.to(outputs)), 1.0 / len(drawn)


def _squares(call: LayerCall, g: Tensor, basis: LayerCurvature) -> tuple[Tensor, Tensor]:
    """``Σ_i (U_Bᵀ W_i U_A)²`` and ``Σ_i ‖W_i‖²`` for the gradients W of single samples."""
    shape = (*g.shape[1:3], basis.A.shape[2])
    total, trace = g.new_zeros(shape), g.new_zeros(())
    step = max(1, _CHUNK // max(total.numel(), call.patches(slice(1)).numel()))
    for start in range(0, len(g), step):
        patches, part = call.patches(slice(start, start + step)), g[start : start + step]
        if basis.thin:
            trace += ((patches.mT @ patches) * (part.mT @ part)).sum()
        total += (basis.turned(part) @ (basis.A.mT @ patches).mT).square().sum(0)
    return total, trace if basis.thin else total.sum()


def _add(sums: dict[str, Tensor], key: str, value: Tensor) -> None:
    if key in sums:
        sums[key].add_(value)
    else:
        sums[key] = value
