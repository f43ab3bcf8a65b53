"""Rows of J in the few coordinates that carry nearly all of the tangent kernel.

The kernel ``K = J Jᵀ`` is a sum over the coordinates of any orthonormal basis, and in the
eigenbasis of the Kronecker factors a few thousand carry nearly all of it.  What one sample does
to another depends on the few samples that compete with it; Kronecker factors average over them,
rows in these coordinates keep every one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lqf.curvature.factors import KroneckerFactors
from lqf.curvature.layers import Layer
from lqf.curvature.plan import make_plan
from lqf.curvature.probes import Combinations, ProbeCount, Probes
from lqf.curvature.recording import Record, wide
from lqf.curvature.sweep import Progress, check_images, sweep
from lqf.linear.images import Images

# Entries of one layer's rotated patches, or of products of them, that are held at a time.
_CHUNK = 1 << 24

# Columns a sample from which a product for each sample is as fast as one for all of them.
_MANY = 64

# Least probability of a coordinate relative to the largest; no coordinate is excluded.
_LEAST = 1e-6


@dataclass(frozen=True)
class _Part:
    """The coordinates taken from one layer: entries of ``leftᵀ (gradient as o × d) right``."""

    left: Tensor
    right: Tensor
    entries: Tensor
    scale: Tensor
    place: slice


@dataclass(frozen=True)
class _Plain:
    """The coordinates taken from a parameter without a Kronecker block: entries of it."""

    entries: Tensor
    scale: Tensor
    place: slice


class Coordinates:
    """Some coordinates of δ in the eigenbasis of Kronecker factors.

    A coordinate of curvature λ is taken with a probability in proportion to √λ, at most 1, and
    divided by the root of that probability, so that the expectation of the kernel is the kernel.
    The large ones are so taken for certain.  Where a kernel is wanted that never exceeds the true
    one (a preconditioner), only the largest are taken, and what the others hold is told.

    Args:
        factors: Kronecker factors of the Gauss–Newton matrix at w0.
        size: k, how many coordinates to take; P or more takes all, which makes everything exact.
            (A thin basis leaves out coordinates in which no sample has a row, so they are not
            missed, except in the variance of an image unlike all samples.)
        rest: "sampled", or "dropped" for the k largest alone.
        eigenvalues: λ by layer from `eigenvalue_correction`; None for those of the factors.
        seed: of the sample.

    Attributes:
        size: k, how many were taken.
        missing: sum of λ over the coordinates that were not taken; 0 if the rest is sampled.

    Raises:
        ValueError: if no coordinate is asked for, or ``rest`` is unknown.
    """

    def __init__(
        self,
        factors: KroneckerFactors,
        size: int = 2048,
        *,
        rest: Literal["sampled", "dropped"] = "sampled",
        eigenvalues: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; at least one coordinate is needed.")
        if rest not in ("sampled", "dropped"):
            raise ValueError(f"rest is {rest!r}; it must be 'sampled' or 'dropped'.")
        self.made = factors.made
        curvature: dict[str, Tensor] = {}
        for path in factors.blocks:
            if eigenvalues is None:
                basis = factors.basis(path)
                curvature[path] = basis.b.unsqueeze(2) * basis.a.unsqueeze(1)
            else:
                curvature[path] = eigenvalues[path]
        parts = [*curvature.values(), *factors.diagonal.values()]
        values = torch.cat([part.reshape(-1).double().cpu() for part in parts])
        if rest == "sampled":
            index, scale = _sample(values, size, seed)
            self.missing = 0.0
        else:
            index = values.argsort(descending=True)[:size].sort().values
            scale = torch.ones(len(index), dtype=torch.float64)
            self.missing = max(0.0, float(values.sum() - values[index].sum()))
        self.size = len(index)
        self._layers: dict[str, _Part] = {}
        self._plain: dict[str, _Plain] = {}
        offset = taken = 0
        for name, part in zip([*curvature, *factors.diagonal], parts, strict=True):
            end = int(torch.searchsorted(index, offset + part.numel()))
            entries, place = index[taken:end] - offset, slice(taken, end)
            own = scale[place].to(part.device)
            offset, taken = offset + part.numel(), end
            if name in curvature:
                self._layers[name] = _part(factors, name, part.shape, entries, own, place)
            else:
                self._plain[name] = _Plain(entries.to(part.device), own, place)

    def rows(
        self,
        network: nn.Module,
        images: Images,
        *,
        probes: ProbeCount | Tensor = "all",
        batch: int = 32,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """The rows of J in these coordinates: one walk over the images.

        One forward pass, and for each probe the backward pass by the layers' outputs only.

        Args:
            network: the network at w0 that made the factors.
            images: N × 3 × H × W.
            probes: "all" for every output; or a number m of random combinations of them, with
                which the sum over m of squares has the sum over outputs as its expectation; or
                the combinations themselves, N × C × m (`lqf.influence.residual_probes`).
            batch: images in one forward pass.
            seed: of the random combinations.
            progress: called as progress(done, total, note) after each batch.

        Returns:
            N × C × k, or N × m × k, in the precision of the weights.

        Raises:
            ValueError: if combinations of outputs have another shape.
        """
        check_images(images, batch)
        plan = make_plan(network, self.made.names, images)
        like = next(network.parameters())
        kept: dict[str, Tensor] = {}
        state = {"start": 0, "end": 0, "probe": 0}
        result: list[Tensor] = []

        def inputs(record: Record) -> None:
            state.update(start=state["end"], end=state["end"] + len(record.outputs), probe=0)
            kept.clear()
            for layer in plan.layers:
                part = self._layers[layer.path]
                x = wide(record.unchanged_input(layer.path).detach())
                if len(part.entries) and layer.patch_entries(x) * len(x) <= _CHUNK:
                    kept[layer.path] = _rotated(part.right, layer.homogeneous(layer.patches(x)))

        def gradients(record: Record, found: dict[str, Tensor], weight: float) -> None:
            if not result:
                count = _drawn(probes, images, record.outputs.shape[1], seed).count
                shape = (len(images), count, self.size)
                result.append(torch.empty(shape, dtype=like.dtype, device=record.outputs.device))
            rows = result[0][state["start"] : state["end"], state["probe"]]
            state["probe"] += 1
            root = weight**0.5
            for layer in plan.layers:
                part = self._layers[layer.path]
                if not len(part.entries):
                    continue
                g = layer.gradients(wide(found[layer.path]))
                if layer.path in kept:
                    values = _products(g, kept[layer.path], part)
                else:
                    x = wide(record.unchanged_input(layer.path).detach())
                    values = _products_anew(layer, x, g, part)
                rows[:, part.place] = (values * (part.scale * root)).to(rows)
            for owner in plan.owners:
                for name, value in owner.sample_gradients(record, found[owner.path]).items():
                    plain = self._plain[name]
                    values = value.flatten(1)[:, plain.entries] * (plain.scale * root)
                    rows[:, plain.place] = values.to(rows)

        sweep(
            network,
            images,
            self.made.names,
            plan,
            probes=lambda outputs: _drawn(probes, images, outputs, seed),
            batch=batch,
            on_forward=inputs,
            on_gradients=gradients,
            progress=progress,
            note="compressed rows",
        )
        return result[0]


def _sample(curvature: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coordinates in ascending order, and the inverse roots of their probabilities."""
    weights = curvature.clamp(min=0).sqrt()
    if size >= len(weights) or not bool(weights.any()):
        index = torch.arange(min(size, len(weights)))
        return index, torch.ones(len(index), dtype=torch.float64)
    weights = weights.clamp(min=_LEAST * float(weights.max()))
    ordered = weights.sort(descending=True).values
    # The m largest are taken for certain, the others share what is left: min(1, c·w) sums to k.
    rest = ordered.flip(0).cumsum(0).flip(0)
    certain = torch.arange(len(ordered))
    share = (size - certain).clamp(min=0) / rest
    m = int((share * ordered < 1).nonzero()[0])
    probability = (share[m] * weights).clamp(max=1.0)
    # Systematic sampling in random order: exactly k, each with its own probability.
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(weights), generator=generator)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    steps = (probability[order].cumsum(0) + start).floor()
    index = order[steps.diff(prepend=steps.new_zeros(1)) > 0].sort().values
    return index, probability[index].rsqrt()


def _part(
    factors: KroneckerFactors,
    path: str,
    shape: torch.Size,
    entries: Tensor,
    scale: Tensor,
    place: slice,
) -> _Part:
    basis = factors.basis(path)
    groups, _, columns = shape
    entries = entries.to(basis.B.device)
    left, right = basis.B, basis.A
    if groups == 1:
        # Only those eigenvectors that some coordinate needs.
        rows, row = (entries // columns).unique(return_inverse=True)
        across, column = (entries % columns).unique(return_inverse=True)
        left, right = left[:, :, rows], right[:, :, across]
        entries = row * len(across) + column
    return _Part(left, right, entries, scale.to(left.dtype), place)


def _drawn(
    probes: ProbeCount | Tensor, images: Images, outputs: int, seed: int
) -> Probes | Combinations:
    """The probes of all images.

    Raises:
        ValueError: if combinations of outputs have another shape.
    """
    if not isinstance(probes, Tensor):
        return Probes(len(images), outputs, probes, seed)
    if probes.dim() != 3 or probes.shape[:2] != (len(images), outputs):
        raise ValueError(
            f"probes has shape {tuple(probes.shape)}; combinations of outputs need "
            f"{len(images)} × {outputs} × m, one column for each combination."
        )
    return Combinations(probes)


def _rotated(basis: Tensor, columns: Tensor) -> Tensor:
    """``basisᵀ columns`` of every sample: groups × d × r by b × groups × d × S."""
    if columns.shape[-1] >= _MANY:
        return basis.mT @ columns
    # One product of two matrices is faster than one for each sample where these are small.
    b, groups, d, S = columns.shape
    side_by_side = columns.permute(1, 2, 0, 3).reshape(groups, d, b * S)
    return (basis.mT @ side_by_side).unflatten(2, (b, S)).permute(2, 0, 1, 3)


def _products(g: Tensor, a: Tensor, part: _Part) -> Tensor:
    """The chosen entries of ``leftᵀ g aᵀ``, a being rotated before, b × entries."""
    S, (o, rows), columns = g.shape[-1], part.left.shape[1:], a.shape[2]
    left_first = rows * S * (o + columns) <= o * columns * (S + rows)
    width = (rows if left_first else o) * columns * len(g[0])
    values = []
    step = max(1, _CHUNK // width)
    for x, y in zip(g.split(step), a.split(step), strict=True):
        product = _rotated(part.left, x) @ y.mT if left_first else _rotated(part.left, x @ y.mT)
        values.append(product.flatten(1)[:, part.entries])
    return torch.cat(values)


def _products_anew(layer: Layer, inputs: Tensor, g: Tensor, part: _Part) -> Tensor:
    """The same, with patches made anew in pieces."""
    step = max(1, _CHUNK // layer.patch_entries(inputs))
    values = []
    for x, y in zip(inputs.split(step), g.split(step), strict=True):
        a = _rotated(part.right, layer.homogeneous(layer.patches(x)))
        values.append(_products(y, a, part))
    return torch.cat(values)
