"""Ridge regression in its dual: everything exact about a small problem, from its kernel.

The problem is ``Σ_i ω_i ‖R_i − J_iδ‖² + μ δᵀMδ`` with ``K = J M⁻¹ Jᵀ``.  With ``S = K + μΩ⁻¹`` and G = S⁻¹
the dual coefficients are ``a = G vec(R)``, ``δ = M⁻¹Jᵀa``, and the training residuals ``μ a_i/ω_i``.  Without a
sample (or a group) i the optimum at unchanged M and μ is that of ``a − G[:,i] G_ii⁻¹ a_i``, whose entries
at i are zero, so everything about removal is a block of G.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

# Entries of a response, M × N × C, that are held at a time.
_CHUNK = 1 << 25


class DenseRidge:
    """The optimum of a problem whose kernel is held.

    Args:
        gram: K, NC × NC with rows in the order i·C + c; or N × N, a kernel that all outputs share.
        target: R, N × C.
        mu: μ > 0.
        noise: 1/ω, N; None for ones.

    Attributes:
        coefficients: a, N × C, float64.

    Raises:
        ValueError: if shapes disagree, an entry is not finite, or K + μΩ⁻¹ is not positive definite.
    """

    def __init__(
        self,
        gram: Tensor,
        target: Tensor,
        mu: float,
        noise: Tensor | None = None,
        *,
        factor: Tensor | None = None,
    ) -> None:
        if not (mu > 0 and mu < float("inf")):
            raise ValueError(f"mu is {mu!r}; it must be a finite number above 0.")
        N, C = target.shape
        if gram.shape not in ((N * C, N * C), (N, N)):
            raise ValueError(
                f"gram has shape {tuple(gram.shape)} for a target of {N} × {C}; it must have "
                f"{N * C} rows, or {N} where all outputs share one kernel."
            )
        self.gram, self.target, self.mu = gram.double(), target.double(), mu
        self.noise = torch.ones_like(self.target[:, 0]) if noise is None else noise.double()
        self.width = len(gram) // N
        if factor is None:
            shift = torch.diag((mu * self.noise).repeat_interleave(self.width))
            factor, failed = torch.linalg.cholesky_ex(self.gram + shift)
            if failed and bool(torch.isfinite(self.gram).all()):
                # What rounding of single precision has left below zero is zero.
                values, vectors = torch.linalg.eigh((self.gram + self.gram.T) / 2)
                self.gram = (vectors * values.clamp(min=0)) @ vectors.T
                factor, failed = torch.linalg.cholesky_ex(self.gram + shift)
            if failed or not bool(torch.isfinite(factor).all()):
                raise ValueError(
                    f"K + μI is not positive definite at mu = {mu:.3g} in double precision (the mean "
                    f"diagonal of K is {float(self.gram.diagonal().mean()):.3g}); choose a larger mu, "
                    "or check the images and the network's outputs for NaN."
                )
        self.factor = factor
        right = self.target.reshape(len(gram), -1)
        self.coefficients = torch.cholesky_solve(right, factor).reshape(N, C)

    def __len__(self) -> int:
        """N."""
        return len(self.target)

    @cached_property
    def inverse(self) -> Tensor:
        """``G = (K + μΩ⁻¹)⁻¹``."""
        return torch.cholesky_inverse(self.factor)

    @property
    def residuals(self) -> Tensor:
        """``R − Jδ`` of the training samples, N × C."""
        return self.mu * self.noise[:, None] * self.coefficients

    def predict(self, cross: Tensor) -> Tensor:
        """``J_t δ`` of every input, M × C; ``cross`` as in `respond`."""
        flat = self.coefficients.reshape(len(self.gram), -1)
        return (cross @ flat).reshape(-1, self.target.shape[1])

    def rows(self, index: Tensor) -> Tensor:
        """Positions of some samples in K."""
        return (index[:, None] * self.width + torch.arange(self.width).to(index)).reshape(-1)

    @cached_property
    def _blocks(self) -> Tensor:
        """``G_ii``, N × w × w."""
        N, w = len(self), self.width
        return self.inverse.view(N, w, N, w).diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def leave_one_out(self, groups: Sequence[Tensor] | None = None) -> Tensor:
        """``G_ii⁻¹ a_i``: the residual of each sample under the optimum without it, N × C.

        Args:
            groups: samples that leave together, each a vector of positions; every sample in one.
        """
        a = self.coefficients
        if groups is None:
            flat = a.reshape(len(self), self.width, -1)
            return torch.linalg.solve(self._blocks, flat).reshape(a.shape)
        found = torch.empty_like(a)
        for group in groups:
            rows = self.rows(group)
            right = a[group].reshape(len(rows), -1)
            block = self.inverse[rows][:, rows]
            found[group] = torch.linalg.solve(block, right).reshape(len(group), -1)
        return found

    def leverage(self) -> Tensor:
        """``H_ii = I − μ G_ii/ω_i``, N × w × w: what a sample's own target adds to its prediction."""
        eye = torch.eye(self.width, dtype=self.gram.dtype, device=self.gram.device)
        return eye - self.mu * self.noise[:, None, None] * self._blocks

    def respond(self, cross: Tensor, change: Tensor) -> Tensor:
        """``K_tX G[:,i] z_i`` for every input t and sample i, M × N × C.

        Args:
            cross: K_tX, MC × NC (M × N for a shared kernel).
            change: z, N × C.
        """
        N, w = len(self), self.width
        across = (cross @ self.inverse).view(-1, w, N, w)
        if w == 1:
            return across[:, 0, :, 0, None] * change
        return torch.einsum("tcnk,nk->tnc", across, change)

    def informativeness(self, cross: Tensor) -> Tensor:
        """F-SI of every sample (LQF eq. 9): mean over t of ``‖f(x_t) − f₋ᵢ(x_t)‖²``, N."""
        return self.mean_square(cross, self.leave_one_out())

    def informativeness_eq8(self, cross: Tensor) -> Tensor:
        """F-SI from LQF eq. 8 as it is printed, N.

        With ``F = JᵀJ/N``, ``λ = μ/N``, ``e_i = r_i/N`` and ``α_i = J_i(F+λI)⁻¹J_iᵀ = N H_ii`` the printed
        bracket is ``(N−1)((N−1)I + α_i)⁻¹``, which acts on e_i.  It is the effect of *adding* sample i once F,
        λ and e_i are those of the other N − 1; with those of all N it shrinks what removal amplifies.
        """
        N = len(self)
        leverage = self.leverage()
        eye = torch.eye(self.width, dtype=leverage.dtype, device=leverage.device)
        right = (N - 1) * self.residuals.view(N, self.width, -1)
        change = torch.linalg.solve((N - 1) * eye + N * leverage, right)
        return self.mean_square(cross, change.view_as(self.target))

    def mean_square(self, cross: Tensor, change: Tensor) -> Tensor:
        """Mean over inputs t of the squared `respond`, N; arguments as there."""
        if self.width == 1:
            return (cross @ self.inverse).square().mean(0) * change.square().sum(1)
        total = torch.zeros(len(self), dtype=torch.float64, device=cross.device)
        step = self.width * max(1, _CHUNK // (len(self) * self.target.shape[1] * self.width))
        for part in cross.split(step):
            total += self.respond(part, change).square().sum((0, 2))
        return total / (len(cross) // self.width)

    def covariance(self, cross: Tensor, own: Tensor) -> Tensor:
        """``J_t (JᵀΩJ + μM)⁻¹ J_tᵀ`` of every input, M × w × w.

        Args:
            cross: K_tX, as in `respond`.
            own: K_tt of every input, M × w × w.
        """
        half = torch.linalg.solve_triangular(self.factor, cross.T, upper=False).T
        half = half.reshape(-1, self.width, len(self.gram))
        return (own - half @ half.mT) / self.mu

    def remove(self, index: Tensor) -> DenseRidge:
        """The optimum without some samples, by decomposing what is left."""
        stay = torch.ones(len(self), dtype=torch.bool, device=index.device)
        stay[index] = False
        kept = stay.nonzero().squeeze(1)
        rows = self.rows(kept)
        gram = self.gram[rows][:, rows]
        return DenseRidge(gram, self.target[kept], self.mu, self.noise[kept])

    def add(self, cross: Tensor, own: Tensor, target: Tensor, noise: Tensor) -> DenseRidge:
        """The optimum with n further samples, which come last: their rows extend the Cholesky factor.

        Args:
            cross: K between the new samples and the old, nC × NC (n × N for a shared kernel).
            own: K of the new samples, nC × nC.
            target: their R, n × C.
            noise: their 1/ω, n.

        Raises:
            ValueError: if the enlarged matrix is not positive definite.
        """
        left = torch.linalg.solve_triangular(self.factor, cross.T, upper=False).T
        shift = torch.diag((self.mu * noise.double()).repeat_interleave(self.width))
        corner, failed = torch.linalg.cholesky_ex(own + shift - left @ left.T)
        if failed:
            raise ValueError(
                f"K + μI of the enlarged set is not positive definite at mu = {self.mu:.3g}; fit all "
                "samples again with a larger mu."
            )
        above = left.new_zeros(len(left.T), len(own))
        factor = torch.cat([torch.cat([self.factor, above], 1), torch.cat([left, corner], 1)])
        gram = torch.cat([torch.cat([self.gram, cross.T], 1), torch.cat([cross, own], 1)])
        targets = torch.cat([self.target, target.double()])
        noises = torch.cat([self.noise, noise.double()])
        return DenseRidge(gram, targets, self.mu, noises, factor=factor)
