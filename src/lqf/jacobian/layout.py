"""The order in which parameters lie in the flat vector δ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the trained parameters, in the order of the flat vector δ (P).

    Args:
        names: parameter names, in ``named_parameters`` order.
        shapes: their shapes.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, Tensor]]) -> Layout:
        """The layout of named tensors, in their own order."""
        items = list(parameters)
        return cls(tuple(n for n, _ in items), tuple(t.shape for _, t in items))

    @property
    def sizes(self) -> list[int]:
        """Number of entries of each parameter."""
        return [shape.numel() for shape in self.shapes]

    @property
    def size(self) -> int:
        """P, the number of trained parameters."""
        return sum(self.sizes)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of δ (P) by parameter name.

        Raises:
            ValueError: if ``vector`` does not have P entries.
        """
        if vector.shape != (self.size,):
            raise ValueError(
                f"a parameter vector of shape {tuple(vector.shape)} was given; this layout needs "
                f"({self.size},)."
            )
        parts = vector.split(self.sizes)
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.reshape(shape) for name, part, shape in named}

    def join_rows(self, named: Mapping[str, Tensor]) -> Tensor:
        """Rows, n × P, of tensors n × entries given by name."""
        return torch.cat([named[name].flatten(1) for name in self.names], 1)
