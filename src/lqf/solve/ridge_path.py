"""All ridge constants from one eigendecomposition, and the choice among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lqf.solve.closed_form import as_right_hand_side

Criterion = Literal["loo", "gcv"]

# Entries of products of eigenvectors that are held at a time.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class RidgeChoice:
    """The ridge constant chosen, and the curve it was chosen from.

    Attributes:
        mu: the μ with the smallest score.
        mus: the candidates, M.
        scores: their criterion, M: mean over samples of the squared leave-one-out residual (summed
            over outputs), or generalised cross-validation in the same unit.
        at_edge: whether the choice is the smallest or largest candidate.
    """

    mu: float
    mus: Tensor
    scores: Tensor
    at_edge: bool


class RidgePath:
    """The solutions of Σ‖R_i − J_iδ‖² + μ‖δ‖² for every μ > 0, from one eigendecomposition of K.

    With K = UΛUᵀ and G(μ) = (K + μI)⁻¹: a = G vec(R), δ = Jᵀa, training residuals
    r = μa, leave-one-out residuals G_ii⁻¹ a_i (D1).
    """

    def __init__(self, gram: Tensor, target: Tensor) -> None:
        """Decompose the Gram matrix.

        Args:
            gram: K = JJᵀ, NC × NC with rows in the order i·C + c; or N × N for a kernel that all
                outputs share (a head on fixed features).
            target: R = αY − f0, N × C.

        Raises:
            ValueError: if shapes disagree or an entry is NaN or infinite.
        """
        self._right = as_right_hand_side(gram, target)
        for name, tensor in (("gram", gram), ("target", target)):
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(
                    f"{name} has NaN or infinite entries; check the network's outputs."
                )
        matrix = gram.double()
        values, self._vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        self._values = values.clamp(min=0)
        self._rotated = self._vectors.T @ self._right
        self._shape = tuple(target.shape)
        # Rows of K that leave with one sample: 1 for a shared kernel, C otherwise.
        self._width = len(gram) // len(target)

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of K, ascending, clipped at 0."""
        return self._values

    def coefficients(self, mu: float) -> Tensor:
        """Return a = (K + μI)⁻¹ vec(R), N × C; `jacobian.pull(a)` is δ.

        Args:
            mu: μ > 0.

        Returns:
            a, N × C, float64.
        """
        weights = 1.0 / (self._values + _positive(mu))
        return (self._vectors @ (weights.unsqueeze(1) * self._rotated)).reshape(self._shape)

    def residuals(self, mu: float) -> Tensor:
        """Return the training residuals R − Jδ = μa, N × C.

        Args:
            mu: μ > 0.

        Returns:
            Residuals, N × C, float64.
        """
        return mu * self.coefficients(mu)

    def loo_residuals(self, mu: float) -> Tensor:
        """Return the residual of every sample under the solution without it, N × C (D1).

        Args:
            mu: μ > 0, the same with and without the sample.

        Returns:
            G_ii⁻¹ a_i, N × C, float64.
        """
        weights = 1.0 / (self._values + _positive(mu))
        coefficients = self.coefficients(mu)
        if self._width == 1:
            leverage = (self._vectors.square() @ weights).unsqueeze(1)
            return coefficients / leverage
        # G_ii = U_i diag(w) U_iᵀ costs NC·C a sample where all of G would cost NC·NC.
        rows = self._vectors.reshape(len(coefficients), self._width, -1)
        blocks = (rows * weights) @ rows.mT
        return torch.linalg.solve(blocks, coefficients.unsqueeze(-1)).squeeze(-1)

    def loo(self, mu: float) -> float:
        """Return the mean over samples of the squared leave-one-out residual.

        Args:
            mu: μ > 0.

        Returns:
            (1/N) Σ_i ‖R_i − J_iδ₋ᵢ‖².
        """
        return float(self.loo_residuals(mu).square().sum()) / self._shape[0]

    def gcv(self, mu: float) -> float:
        """Return generalised cross-validation (Golub, Heath & Wahba 1979), in the unit of `loo`.

        Args:
            mu: μ > 0.

        Returns:
            (1/N) ‖r‖² / (tr(I − H)/NC)², the leave-one-out score with every leverage replaced by
            their mean.
        """
        residual = float(self.residuals(mu).square().sum()) / self._shape[0]
        freedom = float((mu / (self._values + mu)).mean())
        return residual / freedom**2

    def grid(self, count: int = 33, decades: float = 8.0) -> Tensor:
        """Return candidates for μ, spaced evenly in log μ and ending at the largest eigenvalue.

        Args:
            count: number of candidates.
            decades: decades below the largest eigenvalue of K.

        Returns:
            μ, ascending, `count`.

        Raises:
            ValueError: if K is zero.
        """
        top = float(self._values[-1])
        if not top > 0:
            raise ValueError(
                "The Gram matrix is zero, so no ridge constant can be chosen; a zero head makes "
                "the backbone's Jacobian zero: initialise the head at random."
            )
        return top * torch.logspace(-decades, 0, count, dtype=torch.float64)

    def choose(
        self, mus: Sequence[float] | Tensor | None = None, criterion: Criterion = "loo"
    ) -> RidgeChoice:
        """Return the μ with the smallest score; no validation set is needed.

        Args:
            mus: candidates, all > 0; None for `grid()`.
            criterion: "loo" (exact leave-one-out squared error) or "gcv".

        Returns:
            The choice and the whole curve.

        Raises:
            ValueError: if the criterion is unknown, or a candidate is not positive.
        """
        if criterion not in ("loo", "gcv"):
            raise ValueError(f"criterion is {criterion!r}; it must be 'loo' or 'gcv'.")
        candidates = self.grid() if mus is None else torch.as_tensor(mus, dtype=torch.float64)
        if candidates.ndim != 1 or len(candidates) == 0:
            raise ValueError(
                f"mus has shape {tuple(candidates.shape)}; a list of at least one μ is needed."
            )
        scores = self._scores(candidates, criterion)
        best = int(scores.argmin())
        mu = float(candidates[best])
        at_edge = mu in (float(candidates.min()), float(candidates.max()))
        return RidgeChoice(mu, candidates, scores, at_edge)

    def _scores(self, mus: Tensor, criterion: Criterion) -> Tensor:
        if criterion == "gcv":
            return torch.tensor([self.gcv(float(mu)) for mu in mus], dtype=torch.float64)
        if self._width == 1:
            return torch.tensor([self.loo(float(mu)) for mu in mus], dtype=torch.float64)
        return self._loo_of_all(mus.to(self._values))

    def _loo_of_all(self, mus: Tensor) -> Tensor:
        """`loo` of M constants: G_ii of them all is one product with what is the same for all."""
        for mu in mus.tolist():
            _positive(mu)
        shrink = 1.0 / (self._values + mus[:, None])
        N, C = self._shape[0], self._width
        coefficients = (self._vectors @ (self._rotated * shrink.T)).view(N, C, -1)
        rows = self._vectors.view(N, C, -1)
        upper = torch.triu_indices(C, C, device=rows.device)
        first, second = upper
        # Every entry of G_ii is a weighted sum over the eigenvectors of products of two entries.
        step = max(1, _CHUNK // (len(first) * rows.shape[2]))
        total = torch.zeros(len(mus), dtype=torch.float64, device=rows.device)
        for part, a in zip(rows.split(step), coefficients.split(step), strict=True):
            entries = (part[:, first] * part[:, second]) @ shrink.T
            blocks = entries.new_empty(len(part), len(mus), C, C)
            blocks[..., first, second] = blocks[..., second, first] = entries.mT
            left_out = torch.linalg.solve(blocks, a.mT.unsqueeze(-1))
            total += left_out.square().sum((0, 2, 3))
        return (total / N).cpu()


def _positive(mu: float) -> float:
    if not 0 < mu < float("inf"):
        raise ValueError(f"mu is {mu!r}; the ridge path needs a finite μ > 0.")
    return mu
