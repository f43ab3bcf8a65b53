"""The kernel ``K = J M⁻¹ Jᵀ`` of some samples, formed layer by layer.

The patches of a layer and the gradients by its output are turned into its Kronecker eigenbases; the rows that they
make are divided by the root of its eigenvalues, and multiplied.  Layers are taken in groups that fit in memory,
so no more of J is ever held than a group of layers, in the smaller of two forms: as it is, or as the
layer's patches and the gradients by its output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.budget import budget
from lqf.curvature import Batch, LayerCurvature, Metric, SampleGradients
from lqf.jacobian.images import Images

# Numbers of rotated rows that are made at a time, and rows of a symmetric product.
_CHUNK, _STRIP = 1 << 25, 256
#: Bytes of rows that are held at a time, where a quarter of the memory is more.
HELD = 2**31
# The smallest eigenvalue that candidates tell from zero, in binary orders of the mean: 1.5 % of the smallest ε.
_LEAST = -16


@dataclass(frozen=True)
class Candidates:
    """Kernels of some samples in every metric of one curvature, its eigenvalues rounded to powers of two of the mean.

    Attributes:
        body: by eigenvalue the product of the rows that have it, n × n, float64; without the head.
        head: the same of the head.
    """

    body: dict[float, Tensor]
    head: dict[float, Tensor]

    def at(self, epsilon: float, head_scale: float) -> Tensor:
        """``K``, n × n, with the prior variance of the head multiplied."""
        total = torch.zeros_like(next(iter((self.body or self.head).values())))
        for scale, parts in ((1.0, self.body), (head_scale, self.head)):
            for value, rows in parts.items():
                total.add_(rows, alpha=scale / (value + epsilon))
        return total


@dataclass
class Rows:
    """Rows of J of N samples, m each (n = Nm), by one layer, turned into its eigenbases: formed or as factors.

    Attributes:
        formed: n × G × o × c; n × 1 × 1 × its entries by a parameter of no layer.
        patches: N × G × c × S.
        gradients: N × m × G × o × S; multiplied by the patches they give the rows.
    """

    formed: Tensor | None = None
    patches: Tensor | None = None
    gradients: Tensor | None = None

    @classmethod
    def room(cls, a: Tensor, g: Tensor, samples: int, width: int) -> Rows:
        """Room in the smaller form, for patches and gradients like these of a batch."""
        G, d, S, o = *a.shape[1:], g.shape[2]
        if width * o * d <= S * (d + width * o):
            return cls(a.new_empty(samples * width, G, o, d))
        room = a.new_empty(samples, width, G, o, S)
        return cls(None, a.new_empty(samples, G, d, S), room)

    @property
    def count(self) -> int:
        """How many rows there are, n."""
        if self.formed is not None:
            return len(self.formed)
        return 0 if self.gradients is None else self.gradients[:, :, 0, 0, 0].numel()

    def pieces(self, rows_at_once: int) -> Iterator[tuple[Tensor, slice, slice]]:
        """The rows, some groups or outputs at a time, with their places.

        How many at a time depends on ``rows_at_once``, which rows that are multiplied have in common.
        """
        if self.formed is not None:
            yield self.formed, slice(None), slice(None)
            return
        if self.patches is None or self.gradients is None:
            return
        _, _, G, o, _ = self.gradients.shape
        step = max(1, _CHUNK // (rows_at_once * self.patches.shape[2]))
        if G == 1:
            places = [(slice(None), slice(s, s + step)) for s in range(0, o, step)]
        else:
            step = max(1, step // o)
            places = [(slice(s, s + step), slice(None)) for s in range(0, G, step)]
        for groups, outputs in places:
            rows = self.gradients[:, :, groups, outputs] @ self.patches[:, None, groups].mT
            yield rows.flatten(0, 1), groups, outputs


class KernelMaker:
    """Forms kernels of a network's samples.

    Args:
        samples: how gradients of single samples are found.
        metric: M.
        combinations: C × m, which combinations of the outputs the rows are of; None for every output.
        batch: images at once.
    """

    def __init__(
        self,
        samples: SampleGradients,
        metric: Metric,
        combinations: Tensor | None = None,
        batch: int = 32,
    ) -> None:
        self.samples, self.metric = samples, metric
        self._combinations, self._batch = combinations, batch
        self._kept: tuple[Images, dict[str, Rows]] | None = None

    def gram(self, images: Images) -> Tensor:
        """``K`` of the samples with themselves, NC × NC, rows in sample-major order, float64."""
        return self.samples.run(lambda: self._gram(images))

    def cross(self, images: Images, others: Images) -> Tensor:
        """``K`` between two sets of samples, MC × NC; the rows of ``others`` are kept for further calls."""
        return self.samples.run(lambda: self._cross(images, others))

    def own(self, images: Images) -> Tensor:
        """``K`` of every sample with itself, M × C × C."""
        parts = images.split(self._batch)
        return self.samples.run(lambda: torch.cat([self._own(part) for part in parts]))

    def candidates(self, images: Images) -> Candidates:
        """``K`` of the samples with themselves for every ε and head scale, for one product of all rows.

        The metric has a curvature, whose eigenvalues are off by a factor of √2 at most, or by `_LEAST`.
        """
        return self.samples.run(lambda: self._candidates(images))

    def _own(self, images: Tensor) -> Tensor:
        width = self._width(images)
        total = torch.zeros(len(images), width, width, dtype=torch.float64, device=images.device)
        for group in self._groups(images[:1], len(images)):
            for name, left, values, _ in self._pieces(self._rows(images, group), None):
                each = (left * self._root(name, values, left)).view(len(images), width, -1)
                total += (each @ each.mT).double()
        return total

    def _gram(self, images: Images) -> Tensor:
        total = self._zeros(images, images)
        for group in self._groups(images[:1], len(images)):
            for name, rows, values, _ in self._pieces(self._rows(images, group), None):
                _add_symmetric(total, rows * self._root(name, values, rows))
        _mirror(total)
        return total

    def _cross(self, images: Images, others: Images) -> Tensor:
        total = self._zeros(images, others)
        groups = self._groups(images[:1], len(images) + len(others))
        for group in groups:
            right = self._remembered(others, group, whole=len(groups) == 1)
            for name, a, values, b in self._pieces(self._rows(images, group), right):
                if b is not None:
                    total += ((a * self._root(name, values, a).square()) @ b.T).double()
        return total

    def _candidates(self, images: Images) -> Candidates:
        found = Candidates({}, {})
        mean = self.metric.curvature.mean if self.metric.curvature else math.nan
        for group in self._groups(images[:1], len(images)):
            for name, rows, values, _ in self._pieces(self._rows(images, group), None):
                into = found.head if name in self.metric.head else found.body
                if values is None:
                    continue
                powers = (values / mean).log2().round().clamp(min=_LEAST)
                powers = powers.to(rows).expand(rows.shape[1])
                for power in powers.unique().tolist():
                    value = mean * 2**power
                    if value not in into:
                        into[value] = self._zeros(images, images)
                    _add_symmetric(into[value], rows[:, powers == power])
        for total in (*found.body.values(), *found.head.values()):
            _mirror(total)
        return found

    def _zeros(self, images: Images, others: Images) -> Tensor:
        width, device = self._width(images), images[:1].device
        shape = len(images) * width, len(others) * width
        return torch.zeros(shape, dtype=torch.float64, device=device)

    def _width(self, images: Images) -> int:
        if self._combinations is not None:
            return self._combinations.shape[1]
        return self.samples.linearized.outputs(images[:1]).shape[1]

    def _remembered(self, images: Images, group: list[str], whole: bool) -> dict[str, Rows]:
        """Rows of a group, kept from call to call where one group is all there is."""
        if self._kept is not None and self._kept[0] is images:
            return self._kept[1]
        rows = self._rows(images, group)
        if whole:
            self._kept = images, rows
        return rows

    def _groups(self, image: Tensor, count: int) -> list[list[str]]:
        """Names of weights and other parameters whose rows are held at the same time."""
        batch = Batch(self.samples, image)
        width = self._width(image)
        limit = min(HELD, budget(image.device)) / (count * image.element_size())
        groups: list[list[str]] = [[]]
        room = limit
        for name, numbers in self._numbers(batch, width).items():
            if numbers > room and groups[-1]:
                groups.append([])
                room = limit
            groups[-1].append(name)
            room -= numbers
        return groups

    def _numbers(self, batch: Batch, width: int) -> dict[str, int]:
        """Numbers that are held of a sample, by name of a weight or another parameter."""
        numbers, named = {}, set()
        for weight, call in batch.layers.items():
            _, G, d, S = call.patches(slice(1)).shape
            block = self._block(weight)
            if block is not None and block.thin:
                d += block.A.shape[2]
            numbers[weight] = G * min(width * call.outputs * d, S * (d + width * call.outputs))
            named |= set(call.names)
        layout = self.samples.linearized.layout
        for name, size in zip(layout.names, layout.sizes, strict=True):
            if name not in named:
                numbers[name] = width * size
        return numbers

    def _block(self, weight: str) -> LayerCurvature | None:
        curvature = self.metric.curvature
        return None if curvature is None else curvature.layers.get(weight)

    def _turned(self, weight: str, patches: Tensor) -> Tensor:
        """``U_Aᵀ a``, N × G × r × S; below it, where the basis is thin, what of a it leaves out, d more."""
        block = self._block(weight)
        if block is None:
            return patches
        inside = block.A.mT @ patches
        return torch.cat([inside, patches - block.A @ inside], 2) if block.thin else inside

    def _rows(self, images: Images, group: list[str]) -> dict[str, Rows]:
        """The rows of some images by a group of layers, by name of the weight or the parameter."""
        found: dict[str, Rows] = {}
        wanted, width, N = set(group), self._width(images), len(images)
        start = 0
        for batch in self.samples.batches(images, self._batch):
            part = slice(start, start + len(batch.outputs))
            start = part.stop
            patches = {
                w: self._turned(w, c.patches()) for w, c in batch.layers.items() if w in wanted
            }
            for k in range(width):
                gradients = batch.gradients(self._cotangent(batch.outputs, k))
                for weight, a in patches.items():
                    g, block = gradients.layers[weight], self._block(weight)
                    g = g if block is None else block.turned(g)
                    if weight not in found:
                        found[weight] = Rows.room(a, g, N, width)
                    rows = found[weight]
                    if rows.formed is not None:
                        shaped = rows.formed.view(N, width, *rows.formed.shape[1:])
                        shaped[part, k] = g @ a.mT
                    elif rows.patches is not None and rows.gradients is not None:
                        rows.patches[part], rows.gradients[part, k] = a, g
                for name in wanted & gradients.rows.keys():
                    value = gradients.rows[name]
                    if name not in found:
                        found[name] = Rows(value.new_empty(N * width, 1, 1, value.shape[1]))
                    found[name].formed.view(N, width, -1)[part, k] = value  # type: ignore[union-attr]
        return {name: found[name] for name in group if name in found}

    def _cotangent(self, outputs: Tensor, k: int) -> Tensor:
        if self._combinations is not None:
            return self._combinations[:, k].to(outputs).expand_as(outputs).contiguous()
        cotangent = torch.zeros_like(outputs)
        cotangent[:, k] = 1.0
        return cotangent

    def _pieces(
        self, left: dict[str, Rows], right: dict[str, Rows] | None
    ) -> Iterator[tuple[str, Tensor, Tensor | None, Tensor | None]]:
        """Pieces whose scaled products sum to K: name, n × k, eigenvalues of the columns, m × k.

        Where a basis is thin, the directions that it leaves out are added as they are, and what the
        basis holds of them is not.
        """
        for name, rows in left.items():
            block = self._block(name)
            n = rows.count if right is None else max(rows.count, right[name].count)
            others = None if right is None else right[name].pieces(n)
            for a, groups, outputs in rows.pieces(n):
                b = None if others is None else next(others)[0]
                r = a.shape[3] if block is None else block.A.shape[2]
                values = (
                    self._diagonal(name)
                    if block is None
                    else block.values[groups, outputs].flatten()
                )
                inside = None if b is None else b[..., :r].flatten(1)
                yield name, a[..., :r].flatten(1), values, inside
                if block is not None and block.thin:
                    rest = a.new_tensor(block.rest)
                    beyond = None if b is None else b[..., r:].flatten(1)
                    yield name, a[..., r:].flatten(1), rest, beyond

    def _diagonal(self, name: str) -> Tensor | None:
        curvature = self.metric.curvature
        if curvature is None:
            return None
        if name not in curvature.diagonal:
            raise ValueError(
                f"parameter {name!r} is used for these images in another way than for those the curvature is "
                "of; freeze it with requires_grad_(False)."
            )
        return curvature.diagonal[name].reshape(-1)

    def _root(self, name: str, values: Tensor | None, like: Tensor) -> Tensor:
        """``M^(−1/2)`` of some columns, in their precision."""
        root = like.new_ones(()) if values is None else (values + self.metric.epsilon).rsqrt()
        scale = self.metric.head_scale if name in self.metric.head else 1.0
        return root.to(like) * scale**0.5


def _add_symmetric(total: Tensor, rows: Tensor) -> None:
    """Add ``R Rᵀ`` to the part of a matrix at and right of its diagonal."""
    for start in range(0, len(rows), _STRIP):
        total[start : start + _STRIP, start:] += (
            rows[start : start + _STRIP] @ rows[start:].T
        ).double()


def _mirror(matrix: Tensor) -> None:
    """Make a square matrix symmetric of which the part right of the diagonal is known."""
    for start in range(0, len(matrix), _STRIP):
        stop = start + _STRIP
        own = matrix[start:stop, start:stop]
        own.copy_(own.triu() + own.triu(1).T)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
