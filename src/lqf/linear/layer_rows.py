"""Rows of J by the parameters of one layer, and products of two samples' rows.

A row is ``Σ_s g_s a_sᵀ`` over the S positions of a layer: the gradient by its output times its input.
It is held formed (o × d numbers) or as its two factors, whichever makes products cheaper.  Two
samples' rows in factors meet in ``Σ_ss' (a_s·a'_s') (g_s·g'_s')``, which never forms either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

# Columns of formed rows in one product in the rows' own precision; float64 sums over them.
_COLUMNS = 4096
# Rows of a symmetric product at a time, and entries that are taken to float64 at a time.
_ROWS, _CHUNK = 128, 1 << 18
# Entries of the positions' products that are held at a time.
_POSITIONS = 1 << 22
# What a product in factors costs beside its arithmetic, as operations on each number it writes.
_OVERHEAD = 40


class LayerRows(Protocol):
    """J of N samples by the p parameters of one layer, held by class and then by sample."""

    def __getitem__(self, index: Tensor | slice) -> Self:
        """The rows of some samples."""
        ...

    def joined(self, other: Self) -> Self:
        """These samples' rows and then the other's."""
        ...

    def add_product(self, total: Tensor, other: Self | None) -> None:
        """Add ``J J'ᵀ`` to a matrix C × N × C × M, float64.

        Without another it is symmetric, and only a part is added: for formed rows where
        (c, i) ≤ (c', j) or somewhat more, for rows in factors where i ≤ j.
        """
        ...

    def own_products(self) -> Tensor:
        """``J_i J_iᵀ``, N × C × C, float64."""
        ...

    def forward(self, delta: Tensor) -> Tensor:
        """``J δ`` for the layer's part of δ (p, float64), N × C, float64."""
        ...

    def pull(self, cotangent: Tensor) -> Tensor:
        """``Jᵀ c`` for c (N × C, float64), p, float64."""
        ...


@dataclass(frozen=True)
class FormedRows:
    """Rows as they are.

    Args:
        rows: C × N × p.
    """

    rows: Tensor

    def __getitem__(self, index: Tensor | slice) -> FormedRows:
        """The rows of some samples."""
        return FormedRows(self.rows[:, index])

    def joined(self, other: FormedRows) -> FormedRows:
        """These samples' rows and then the other's."""
        return FormedRows(torch.cat([self.rows, other.rows], 1))

    def add_product(self, total: Tensor, other: FormedRows | None) -> None:
        """Add ``J J'ᵀ``; see `LayerRows`."""
        left = self.rows.flatten(0, 1)
        right = left if other is None else other.rows.flatten(0, 1)
        flat = total.view(len(left), len(right))
        for a, b in zip(left.split(_COLUMNS, 1), right.split(_COLUMNS, 1), strict=True):
            for start in range(0, len(a), _ROWS):
                first = start if other is None else 0
                flat[start : start + _ROWS, first:] += a[start : start + _ROWS] @ b[first:].T

    def own_products(self) -> Tensor:
        """``J_i J_iᵀ``; see `LayerRows`."""
        each = (self.rows[:, i].double() for i in range(self.rows.shape[1]))
        return torch.stack([row @ row.T for row in each])

    def forward(self, delta: Tensor) -> Tensor:
        """``J δ``; see `LayerRows`."""
        total = delta.new_zeros(self.rows.shape[:2])
        flat = total.view(-1)
        for columns, part in self._wide():
            flat.addmv_(part, delta[columns])
        return total.T

    def pull(self, cotangent: Tensor) -> Tensor:
        """``Jᵀ c``; see `LayerRows`."""
        total = cotangent.new_empty(self.rows.shape[2])
        flat = cotangent.T.reshape(-1)
        for columns, part in self._wide():
            torch.mv(part.T, flat, out=total[columns])
        return total

    def _wide(self) -> Iterator[tuple[slice, Tensor]]:
        """Some columns at a time in float64, in one buffer."""
        flat = self.rows.flatten(0, 1)
        step = max(1, _CHUNK // len(flat))
        buffer = flat.new_empty(len(flat) * step, dtype=torch.float64)
        for start in range(0, flat.shape[1], step):
            part = flat[:, start : start + step]
            room = buffer[: part.numel()].view(part.shape)
            yield slice(start, start + step), room.copy_(part)


@dataclass(frozen=True)
class FactoredRows:
    """Rows as inputs and gradients of a layer with a weight o × d.

    Args:
        inputs: what the weight multiplies, N × S × d.
        gradients: gradients by the layer's output, C × N × S × o.
    """

    inputs: Tensor
    gradients: Tensor

    def __getitem__(self, index: Tensor | slice) -> FactoredRows:
        """The rows of some samples."""
        return FactoredRows(self.inputs[index], self.gradients[:, index])

    def joined(self, other: FactoredRows) -> FactoredRows:
        """These samples' rows and then the other's."""
        inputs = torch.cat([self.inputs, other.inputs])
        return FactoredRows(inputs, torch.cat([self.gradients, other.gradients], 1))

    def add_product(self, total: Tensor, other: FactoredRows | None) -> None:
        """Add ``J J'ᵀ``; see `LayerRows`."""
        right = self if other is None else other
        C, N, S, o = self.gradients.shape
        T = right.inputs.shape[1]
        step = max(1, _POSITIONS // (S * T * len(right.inputs)))
        for start in range(0, N, step):
            first = start if other is None else 0
            part = slice(start, start + step)
            inputs, others = right.inputs[first:], right.gradients[:, first:]
            meet = self.inputs[part].flatten(0, 1) @ inputs.flatten(0, 1).T
            if S == T == 1:
                own = self.gradients[:, part].reshape(-1, o)
                both = (own @ others.reshape(-1, o).T).view(C, -1, C, len(inputs))
                total[:, part, :, first:] += both.mul_(meet[:, None])
                continue
            # By pairs of samples, S × T.
            blocks = meet.reshape(-1, S, len(inputs), T).transpose(1, 2)
            for i, block in enumerate(blocks, start):
                skip = i - start if other is None else 0
                seen = torch.matmul(block[skip:], others[:, skip:]).view(-1, S * o)
                own = self.gradients[:, i].reshape(C, S * o)
                total[:, i, :, first + skip :] += (own @ seen.T).view(C, C, -1)

    def own_products(self) -> Tensor:
        """``J_i J_iᵀ``; see `LayerRows`."""
        inputs, gradients = self.inputs.double(), self.gradients.double()
        seen = torch.matmul(inputs @ inputs.mT, gradients)
        return gradients.flatten(2).transpose(0, 1) @ seen.flatten(2).permute(1, 2, 0)

    def forward(self, delta: Tensor) -> Tensor:
        """``J δ``; see `LayerRows`."""
        o, d = self.gradients.shape[3], self.inputs.shape[2]
        change = (self.inputs.double() @ delta.view(o, d).T).flatten(1)
        return (self.gradients.double().flatten(2) * change).sum(2).T

    def pull(self, cotangent: Tensor) -> Tensor:
        """``Jᵀ c``; see `LayerRows`."""
        total = self.inputs.new_zeros(self.gradients.shape[1:], dtype=torch.float64)
        for c, gradients in zip(cotangent.T, self.gradients, strict=True):
            total.addcmul_(gradients.double(), c[:, None, None])
        return (total.flatten(0, 1).T @ self.inputs.double().flatten(0, 1)).reshape(-1)


def formed_work(classes: int, size: int) -> int:
    """Multiplications in the product of two samples' formed rows of p entries."""
    return classes**2 * size


def factored_work(classes: int, positions: int, outputs: int, inputs: int) -> int:
    """The same in factors, with what a product in factors costs beside its arithmetic.

    Args:
        classes: C.
        positions: S of the layer.
        outputs: o.
        inputs: d.
    """
    if positions == 1:
        return classes**2 * (outputs + _OVERHEAD // 4) + inputs
    width = classes * positions * outputs
    return width * (classes + positions + _OVERHEAD) + positions**2 * inputs
