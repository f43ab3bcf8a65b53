"""The metric ``M = F + εI``, block by layer: a preconditioner of SGD, and the prior of exact LQF.

Preconditioned descent from δ = 0 with P = (F + εI)⁻¹ moves in the metric P⁻¹, so the preconditioner of
LQF §3.2 is a prior; in exact LQF it is written into the ridge, ``Σ‖R_i − J_iδ‖² + μ δᵀMδ``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lqf.curvature.estimate import Curvature
from lqf.jacobian.layout import Layout


class Metric:
    """``M = F + εI``, or the identity, with the prior variance of some parameters multiplied.

    Args:
        curvature: F; None for the Euclidean metric.
        layout: the trained parameters in the order of δ.
        epsilon: ε > 0, in the unit of F; infinite for the Euclidean metric.
        head: names of the head's parameters; those that are not trained have no prior.
        head_scale: what M⁻¹ is multiplied by for these.

    Raises:
        ValueError: if ε is not positive, or the curvature is of other parameters.
    """

    def __init__(
        self,
        curvature: Curvature | None,
        layout: Layout,
        epsilon: float = math.inf,
        head: Iterable[str] = (),
        head_scale: float = 1.0,
    ) -> None:
        if not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon!r}; it must be a number above 0.")
        self.curvature = None if math.isinf(epsilon) else curvature
        self.epsilon, self.layout = epsilon, layout
        self.head, self.head_scale = frozenset(head) & set(layout.names), head_scale
        self._where: dict[str, slice] = {}
        start = 0
        for name, size in zip(layout.names, layout.sizes, strict=True):
            self._where[name] = slice(start, start + size)
            start += size
        if self.curvature is not None:
            held = set(self.curvature.diagonal)
            held.update(n for block in self.curvature.layers.values() for n in block.names)
            if odd := sorted(held.symmetric_difference(layout.names)):
                raise ValueError(
                    f"the curvature and the network disagree about parameter {odd[0]!r}; estimate it "
                    "for the parameters that are trained."
                )

    @property
    def euclidean(self) -> bool:
        """Whether M is the identity, but for the head."""
        return self.curvature is None

    def solve(self, vector: Tensor) -> Tensor:
        """``M⁻¹ v`` for v, P or k × P, in its precision."""
        if self.curvature is None:
            result = vector.clone()
        else:
            result = torch.empty_like(vector, memory_format=torch.contiguous_format)
            lead = vector.shape[:-1]
            for weight, block in self.curvature.layers.items():
                G, o, _ = block.values.shape
                parts = [
                    vector[..., self._where[name]].reshape(*lead, G, o, -1) for name in block.names
                ]
                V = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
                V = block.turned(V.to(block.values.dtype))
                inside = V @ block.A
                divided = inside / (block.values + self.epsilon)
                if block.thin:
                    rest = block.rest + self.epsilon
                    V = V / rest + (divided - inside / rest) @ block.A.mT
                else:
                    V = divided @ block.A.mT
                V = block.back(V).to(vector.dtype)
                if len(block.names) > 1:
                    result[..., self._where[block.names[1]]] = V[..., -1].reshape(*lead, -1)
                    V = V[..., :-1]
                result[..., self._where[weight]] = V.reshape(*lead, -1)
            for name, values in self.curvature.diagonal.items():
                place = self._where[name]
                result[..., place] = vector[..., place] / (values.to(vector) + self.epsilon)
        if self.head_scale != 1.0:
            for name in self.head:
                result[..., self._where[name]] *= self.head_scale
        return result
