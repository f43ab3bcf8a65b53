"""Exact leave-one-out errors for every ridge constant, from one eigendecomposition of the kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Candidates for μ, in units of the mean diagonal of K: this many decades below and above, and steps each.
BELOW, ABOVE, STEPS = 5, 2, 4

# Entries of products of eigenvectors that are held at a time.
_CHUNK = 1 << 24


class RidgePath:
    """The leave-one-out error of ``Σ ω_i‖R_i − J_iδ‖² + μ δᵀMδ`` as a function of μ.

    Args:
        gram: K, NC × NC, or N × N for a kernel that all outputs share.
        target: R, N × C.
        noise: 1/ω, N; None for ones.
        groups: samples that leave together; None leaves them out one by one.

    Raises:
        ValueError: if an entry is not finite, or K is zero.
    """

    def __init__(
        self,
        gram: Tensor,
        target: Tensor,
        noise: Tensor | None = None,
        groups: Sequence[Tensor] | None = None,
    ) -> None:
        if not bool(torch.isfinite(gram).all()) or not bool(torch.isfinite(target).all()):
            raise ValueError(
                "the kernel or the targets are NaN or infinite; check the images and the network."
            )
        self._N, self._width = len(target), len(gram) // len(target)
        weights = torch.ones_like(target[:, 0]) if noise is None else 1 / noise
        weights = weights.double()
        root = weights.sqrt().repeat_interleave(self._width)
        scaled = root[:, None] * gram.double() * root
        self._values, self._vectors = torch.linalg.eigh((scaled + scaled.T) / 2)
        self._values.clamp_(min=0)
        right = target.double() * weights.sqrt()[:, None]
        self._rotated = self._vectors.T @ right.reshape(len(gram), -1)
        self._weight, self._groups = float(weights.sum()), groups
        #: Mean diagonal of K, the natural unit of μ.
        self.unit = float(self._values.mean())
        if not self.unit > 0:
            raise ValueError(
                "the Jacobian is zero, so nothing can be fitted; a zero head makes it so: initialise "
                "the head at random."
            )

    def grid(self) -> Tensor:
        """The candidates for μ, ascending."""
        count = STEPS * (BELOW + ABOVE) + 1
        return self.unit * torch.logspace(-BELOW, ABOVE, count, dtype=torch.float64)

    def errors(self, mus: Tensor) -> Tensor:
        """Mean over samples of ``ω_i ‖R_i − J_iδ₋ᵢ‖²``, summed over outputs, for every μ."""
        shrink = 1.0 / (self._values + mus.to(self._values)[:, None])
        if self._groups is not None:
            return torch.stack([self._by_groups(weights) for weights in shrink])
        if self._width == 1:
            leverage = self._vectors.square() @ shrink.T
            coefficients = torch.einsum("nk,kc,mk->mnc", self._vectors, self._rotated, shrink)
            return (coefficients / leverage.T[:, :, None]).square().sum((1, 2)) / self._weight
        N, C = self._N, self._width
        coefficients = (self._vectors @ (self._rotated * shrink.T)).view(N, C, -1)
        rows = self._vectors.view(N, C, -1)
        total = torch.zeros(len(mus), dtype=torch.float64, device=rows.device)
        step = max(1, _CHUNK // (C * C * rows.shape[2]))
        for start in range(0, N, step):
            part = rows[start : start + step]
            pairs = (part[:, :, None] * part[:, None]).flatten(0, 2) @ shrink.T
            blocks = pairs.view(len(part), C, C, -1).permute(3, 0, 1, 2)
            right = coefficients[start : start + step].permute(2, 0, 1)
            left_out = torch.linalg.solve(blocks, right.unsqueeze(-1))
            total += left_out.square().sum((1, 2, 3))
        return total / self._weight

    def _by_groups(self, weights: Tensor) -> Tensor:
        coefficients = self._vectors @ (weights[:, None] * self._rotated)
        total = coefficients.new_zeros(())
        for group in self._groups or ():
            rows = (group[:, None] * self._width + torch.arange(self._width).to(group)).reshape(-1)
            part = self._vectors[rows]
            total += (
                torch.linalg.solve((part * weights) @ part.T, coefficients[rows]).square().sum()
            )
        return total / self._weight
