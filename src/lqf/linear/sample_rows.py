"""J of some samples, layer by layer: what exact answers are computed from.

The rows of J have P entries each; those of the late layers of a network, which hold most of P, have
few positions, so that they are smaller, and their products cheaper, in factors
(`lqf.linear.layer_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lqf.linear.layer_rows import (
    FactoredRows,
    FormedRows,
    LayerRows,
    factored_work,
    formed_work,
)
from lqf.linear.linearized import Linearized
from lqf.linear.per_sample import (
    Records,
    by_weight,
    multiplied,
    positions_last,
    recorded,
    treatable,
)

# Rows that are mirrored at a time.
_STRIP = 512


@dataclass(frozen=True)
class _Place:
    """How the rows of one layer are held, and which entries of δ they belong to.

    Args:
        path: the layer; empty where all parameters are held together.
        spans: its parameters' places in δ, the weight's before the bias's.
        weight: whether its weight is trained.
        bias: whether its bias is.
        work: multiplications in the product of two samples' rows.
        outputs: o, where the bias is a further column of the weight, o × (d + 1); else 0.
        factored: whether its rows are held in factors.
    """

    path: str
    spans: tuple[slice, ...]
    weight: bool
    bias: bool
    work: int
    outputs: int = 0
    factored: bool = False

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return sum(span.stop - span.start for span in self.spans)


class RowPlan:
    """How the rows of J are held.

    Args:
        linearized: the linearised network.
        images: of which the first is run through the network.

    Attributes:
        numbers: entries that are held of each sample.
        work: multiplications in the product of two samples' rows.
    """

    def __init__(self, linearized: Linearized, images: Tensor) -> None:
        self.linearized = linearized
        layout = linearized.layout
        ends = torch.tensor(layout.sizes).cumsum(0).tolist()
        self._spans = {
            name: slice(end - size, end)
            for name, end, size in zip(layout.names, ends, layout.sizes, strict=True)
        }
        layers = treatable(linearized.network, layout.names)
        with linearized.traced(images[:1]) as call:
            outputs, records = recorded(call, layers or {})
        self.classes = outputs.shape[1]
        self.layers: dict[str, nn.Module] = {}
        self.places = [
            _Place("", (slice(0, layout.size),), True, True, formed_work(self.classes, layout.size))
        ]
        if layers is not None and records is not None:
            self.layers = layers
            self.places = [self._place(path, layer, records) for path, layer in layers.items()]
        rooms = [self._rooms(place, 1, records) for place in self.places]
        self.work = sum(place.work for place in self.places)
        self.numbers = sum(math.prod(shape) for room in rooms for shape in room)

    def _place(self, path: str, layer: nn.Module, records: Records) -> _Place:
        names = [f"{path}.{kind}" if path else kind for kind in ("weight", "bias")]
        weight, bias = (name in self._spans for name in names)
        spans = tuple(self._spans[name] for name in names if name in self._spans)
        size = sum(span.stop - span.start for span in spans)
        formed = _Place(path, spans, weight, bias, formed_work(self.classes, size))
        if isinstance(layer, nn.BatchNorm2d) or not weight:
            return formed
        _, S, d = multiplied(layer, records[path][0]).shape
        o = formed.size // (d + bias)
        work = factored_work(self.classes, S, o, d + bias)
        if work < formed.work:
            return replace(formed, outputs=o, factored=True, work=work)
        return replace(formed, outputs=o)

    def _rooms(self, place: _Place, count: int, records: Records | None) -> list[tuple[int, ...]]:
        """Shapes of what is held of one layer for some samples."""
        if not place.factored or records is None:
            return [(self.classes, count, place.size)]
        S = multiplied(self.layers[place.path], records[place.path][0]).shape[1]
        o = place.outputs
        return [(count, S, place.size // o), (self.classes, count, S, o)]

    def rows(
        self,
        images: Tensor,
        batch: int = 32,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> SampleRows:
        """The rows of some images: a forward pass, and C backward passes by the layers' outputs.

        Args:
            images: N × 3 × H × W.
            batch: images in one forward pass.
            progress: called as progress(done, total, note) after each batch.

        Returns:
            Their rows.
        """
        N, like = len(images), next(self.linearized.network.parameters())

        def room(shape: tuple[int, ...]) -> Tensor:
            return torch.empty(shape, dtype=like.dtype, device=images.device)

        with self.linearized.traced(images[:1]) as call:
            _, records = recorded(call, self.layers)
        base = room((N, self.classes))
        held: list[LayerRows] = []
        for place in self.places:
            rooms = [room(shape) for shape in self._rooms(place, N, records)]
            factored = len(rooms) > 1
            held.append(FactoredRows(*rooms) if factored else FormedRows(*rooms))
        for start in range(0, N, batch):
            part = slice(start, min(start + batch, N))
            base[part] = self._write(images[part], [rows[part] for rows in held])
            if progress is not None:
                progress(part.stop, N, "")
        return SampleRows(self, held, base)

    def _write(self, images: Tensor, held: Sequence[LayerRows]) -> Tensor:
        """Fill in the rows of one batch; f0.

        Raises:
            ValueError: if a layer runs more than once, or not at all, for these images.
        """
        if not self.layers:
            for rows in held:
                if isinstance(rows, FormedRows):
                    rows.rows.copy_(self.linearized.jacobian(images).transpose(0, 1))
            return self.linearized.outputs(images)
        with self.linearized.traced(images) as call:
            outputs, records = recorded(call, self.layers)
            if records is None:
                raise ValueError(
                    "the network runs its layers in another order or number for other images; "
                    "each must run once."
                )
            each = [
                (place, rows, self.layers[place.path], *records[place.path])
                for place, rows in zip(self.places, held, strict=True)
            ]
            seen = []
            for place, rows, layer, inputs, _ in each:
                met = multiplied(layer, inputs)
                if place.outputs and place.bias:
                    met = F.pad(met, (0, 1), value=1.0)
                if isinstance(rows, FactoredRows):
                    rows.inputs.copy_(met)
                seen.append(met)
            edges = [edge for *_, edge in each]
            for c in range(self.classes):
                keep = c + 1 < self.classes
                found = torch.autograd.grad(outputs[:, c].sum(), edges, retain_graph=keep)
                for (place, rows, layer, *_), met, gradient in zip(each, seen, found, strict=True):
                    g = positions_last(layer, gradient)
                    if isinstance(rows, FactoredRows):
                        rows.gradients[c] = g.mT
                    elif isinstance(rows, FormedRows) and place.outputs:
                        torch.bmm(g, met, out=rows.rows[c].view(len(g), place.outputs, -1))
                    elif isinstance(rows, FormedRows):
                        parts = [by_weight(layer, g, met)] if place.weight else []
                        parts += [g.sum(2)] if place.bias else []
                        rows.rows[c] = torch.cat(parts, 1)
        return outputs.detach()


class SampleRows:
    """J of N samples, N × C × P, in the form of a `RowPlan`; sums are float64.

    Args:
        plan: how the rows are held.
        held: the rows by layer.
        base: f0, N × C.
    """

    def __init__(self, plan: RowPlan, held: Sequence[LayerRows], base: Tensor) -> None:
        self.plan = plan
        self.base = base
        self._held = list(held)

    def __len__(self) -> int:
        """N."""
        return len(self.base)

    def __getitem__(self, index: Tensor | slice) -> SampleRows:
        """The rows of the samples in ``index``."""
        return SampleRows(self.plan, [rows[index] for rows in self._held], self.base[index])

    def joined(self, other: SampleRows) -> SampleRows:
        """These samples and then the others, whose rows are held in the same form."""
        pairs = zip(self._held, other._held, strict=True)
        base = torch.cat([self.base, other.base])
        return SampleRows(self.plan, [a.joined(b) for a, b in pairs], base)

    def product(self, other: SampleRows | None = None) -> Tensor:
        """``J J'ᵀ``, NC × MC, float64, rows in sample-major order; of J with itself without other."""
        columns = self.base if other is None else other.base
        (N, C), M = self.base.shape, len(columns)
        totals: dict[type, Tensor] = {}
        for place, rows in enumerate(self._held):
            kind = type(rows) if other is None else LayerRows
            if kind not in totals:
                shape = (C, N, C, M)
                totals[kind] = torch.zeros(shape, dtype=torch.float64, device=columns.device)
            rows.add_product(totals[kind], None if other is None else other._held[place])
        if other is None and FormedRows in totals:
            _mirror(totals[FormedRows].view(N * C, N * C))
        ordered = [total.permute(1, 0, 3, 2).reshape(N * C, M * C) for total in totals.values()]
        if other is None and FactoredRows in totals:
            _mirror(ordered[list(totals).index(FactoredRows)])
        return ordered[0] if len(ordered) == 1 else ordered[0].add_(ordered[1])

    def own_products(self) -> Tensor:
        """``J_i J_iᵀ``, N × C × C, float64."""
        return torch.stack([rows.own_products() for rows in self._held]).sum(0)

    def forward(self, delta: Tensor) -> Tensor:
        """``J δ``, N × C, float64, for δ (P)."""
        wide = delta.double()
        total = torch.zeros(self.base.shape, dtype=torch.float64, device=self.base.device)
        for place, rows in zip(self.plan.places, self._held, strict=True):
            parts = [wide[span] for span in place.spans]
            if place.outputs:
                own = torch.cat([part.view(place.outputs, -1) for part in parts], 1).reshape(-1)
            else:
                own = torch.cat(parts)
            total += rows.forward(own)
        return total

    def pull(self, cotangent: Tensor) -> Tensor:
        """``Jᵀ c``, P, float64, for c (N × C)."""
        wide = cotangent.double()
        total = wide.new_empty(self.plan.linearized.layout.size)
        for place, rows in zip(self.plan.places, self._held, strict=True):
            found = rows.pull(wide).view(place.outputs or 1, -1)
            sizes = [(span.stop - span.start) // len(found) for span in place.spans]
            for span, part in zip(place.spans, found.split(sizes, 1), strict=True):
                total[span] = part.reshape(-1)
        return total


def _mirror(matrix: Tensor) -> None:
    """Make a square matrix symmetric of which the upper triangle is known."""
    for start in range(0, len(matrix), _STRIP):
        stop = start + _STRIP
        own = matrix[start:stop, start:stop]
        own.copy_(own.triu() + own.triu(1).T)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
