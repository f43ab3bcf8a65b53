"""All ridge constants from one eigendecomposition in parameter space, where that is the smaller."""

import torch
from torch import Tensor

from lqf.solve.ridge_path import Criterion, RidgePath

# Numbers of the rotated rows that are held in float64 at a time.
_CHUNK = 1 << 25


class PrimalPath(RidgePath):
    """The ridge path of few coordinates: what `RidgePath` is for few rows.

    With ``JᵀJ = VΘVᵀ`` (k × k) and ``Z = JV``: residuals ``R − Z(Θ + μ)⁻¹ZᵀR``, leverage
    ``H_ii = Z_i(Θ + μ)⁻¹Z_iᵀ``, and leave-one-out residuals ``(I − H_ii)⁻¹ r_i`` (D1).
    """

    def __init__(self, rows: Tensor, target: Tensor) -> None:
        """Decompose JᵀJ.

        Args:
            rows: J, N × C × k.
            target: R = αY − f0, N × C.

        Raises:
            ValueError: if shapes disagree or an entry is NaN or infinite.
        """
        if rows.ndim != 3 or rows.shape[:2] != target.shape:
            raise ValueError(
                f"rows has shape {tuple(rows.shape)}; for a target of shape {tuple(target.shape)} "
                f"it must be {target.shape[0]} × {target.shape[1]} × k."
            )
        size = rows.shape[2]
        normal = torch.zeros(size, size, dtype=torch.float64, device=rows.device)
        self._rows, self._goal = rows, target.double()
        self._step = max(1, _CHUNK // (rows.shape[1] * size))
        for part in rows.split(self._step):
            flat = part.flatten(0, 1).double()
            normal.addmm_(flat.T, flat)
        for name, tensor in (("rows", normal), ("target", target)):
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(
                    f"{name} has NaN or infinite entries; check the network's outputs."
                )
        values, self._vectors = torch.linalg.eigh(normal)
        self._values = values.clamp(min=0)
        self._shape = tuple(target.shape)
        self._rotated = torch.zeros(size, dtype=torch.float64, device=rows.device)
        for part, goal in zip(rows.split(self._step), self._goal.split(self._step), strict=True):
            self._rotated += goal.reshape(-1) @ (part.flatten(0, 1).double() @ self._vectors)

    def coefficients(self, mu: float) -> Tensor:
        """Return a = (K + μI)⁻¹ vec(R), N × C.

        Args:
            mu: μ > 0.

        Returns:
            a, N × C, float64.
        """
        return self.residuals(mu) / mu

    def residuals(self, mu: float) -> Tensor:
        """Return the training residuals R − Jδ, N × C.

        Args:
            mu: μ > 0.

        Returns:
            Residuals, N × C, float64.
        """
        delta = self._vectors @ (self._rotated / (self._values + mu))
        parts = [part.double() @ delta for part in self._rows.split(self._step)]
        return self._goal - torch.cat(parts)

    def loo_residuals(self, mu: float) -> Tensor:
        """Return the residual of every sample under the solution without it, N × C (D1).

        Args:
            mu: μ > 0, the same with and without the sample.

        Returns:
            (I − H_ii)⁻¹ r_i, N × C, float64.
        """
        return self._left_out([mu])[0]

    def gcv(self, mu: float) -> float:
        """Return generalised cross-validation, in the unit of `loo`.

        Args:
            mu: μ > 0.

        Returns:
            (1/N) ‖r‖² / (tr(I − H)/NC)².
        """
        residual = float(self.residuals(mu).square().sum()) / self._shape[0]
        fitted = float((self._values / (self._values + mu)).sum())
        return residual / (1 - fitted / self._goal.numel()) ** 2

    def _scores(self, mus: Tensor, criterion: Criterion) -> Tensor:
        if criterion == "gcv":
            return super()._scores(mus, criterion)
        left_out = self._left_out(mus.tolist())
        return torch.stack([z.square().sum() for z in left_out]).cpu() / self._shape[0]

    def _left_out(self, mus: list[float]) -> list[Tensor]:
        """Leave-one-out residuals for several μ, in one walk over the rows."""
        divisors = [self._values + mu for mu in mus]
        weights = torch.stack([self._rotated / divisor for divisor in divisors])
        eye = torch.eye(self._shape[1], dtype=torch.float64, device=self._values.device)
        parts: list[list[Tensor]] = [[] for _ in mus]
        for rows, goal in zip(
            self._rows.split(self._step), self._goal.split(self._step), strict=True
        ):
            Z = rows.double() @ self._vectors
            for found, weight, divisor in zip(parts, weights, divisors, strict=True):
                blocks = eye - (Z / divisor) @ Z.mT
                residual = (goal - Z @ weight).unsqueeze(-1)
                found.append(torch.linalg.solve(blocks, residual).squeeze(-1))
        return [torch.cat(found) for found in parts]
