"""Influence for all layers of large networks, from rows of J in few coordinates.

Exact linear algebra on N × C × k numbers (`lqf.curvature.Coordinates`), which one walk over the
data yields; with k = P it is exact altogether.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lqf.curvature.moments import second_moment

# Entries of the rows that are taken to float64 at a time.
_CHUNK = 1 << 24


class CompressedRidge:
    """The ridge problem of rows in k coordinates, in float64.

    With ``A = Σ_i J_iᵀJ_i + μI`` (k × k): leverage, leave-one-out, influence and uncertainty.
    Residuals are those of the solution at hand, which need not come from these rows.

    Args:
        rows: J of the N training samples, N × C × k.
        mu: μ > 0 in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²`` (sum over samples and outputs).
        missing: mean square of a training row in the coordinates that are not there. Rows are taken
            to be at right angles to each other in these, so that the kernel has its whole diagonal,
            without which leverages are too small.

    Raises:
        ValueError: if μ is not positive, what is missing is negative, or a row is not finite.
    """

    def __init__(self, rows: Tensor, mu: float, missing: float = 0.0) -> None:
        if not 0 < mu < float("inf"):
            raise ValueError(f"mu is {mu!r}; the ridge constant must be a finite number > 0.")
        if not 0 <= missing < float("inf"):
            raise ValueError(f"missing is {missing!r}; a mean square must be a finite number >= 0.")
        self.samples, self.outputs, size = rows.shape
        self.mu = float(mu)
        # In K + μI what is missing adds to μ; a = r/μ stays.
        self._larger = self.mu + missing
        step = max(1, _CHUNK // (self.outputs * size))
        normal = self._larger * torch.eye(size, dtype=torch.float64, device=rows.device)
        for part in rows.split(step):
            normal += second_moment(part.flatten(0, 1).double().T[None])[0]
        if not bool(torch.isfinite(normal).all()):
            raise ValueError(
                "rows contains NaN or infinite entries; check the network's outputs before "
                "scoring samples with it."
            )
        self._factor = torch.linalg.cholesky(normal)
        self._rows, self._step = rows, step

    def _whitened(self, rows: Tensor) -> Tensor:
        """``J L⁻ᵀ`` with ``A = L Lᵀ``, float64."""
        flat = rows.flatten(0, 1).double().T
        return torch.linalg.solve_triangular(self._factor, flat, upper=False).T.reshape(rows.shape)

    def covariance(self, rows: Tensor) -> Tensor:
        """``J_t A⁻¹ J_tᵀ``: the uncertainty of outputs, in units of the noise variance.

        What is missing of the samples asked about is not in it.

        Args:
            rows: J of the samples asked about, M × C × k.

        Returns:
            M × C × C, float64.
        """
        parts = [self._whitened(part) for part in rows.split(self._step)]
        return torch.cat([white @ white.mT for white in parts])

    def leverage(self) -> Tensor:
        """``H_ii = J_i A⁻¹ J_iᵀ`` of the training samples, N × C × C, float64."""
        eye = torch.eye(self.outputs, dtype=torch.float64, device=self._rows.device)
        return eye - self.mu / self._larger * (eye - self.covariance(self._rows))

    def leave_one_out(self, residuals: Tensor) -> Tensor:
        """``(I − H_ii)⁻¹ r_i``: each sample's residual under the model without it.

        Args:
            residuals: ``r = αY − f`` at the optimum, N × C.

        Returns:
            N × C, float64.
        """
        return self._left_out(residuals)[0]

    def _left_out(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Leave-one-out residuals (N × C), and ``A⁻¹ J_iᵀ`` times them (N × k)."""
        r = residuals.double() * (self._larger / self.mu)
        eye = torch.eye(self.outputs, dtype=r.dtype, device=r.device)
        left_out, steps = [], []
        for rows, own in zip(self._rows.split(self._step), r.split(self._step), strict=True):
            white = self._whitened(rows)
            z = torch.linalg.solve(eye - white @ white.mT, own[:, :, None])
            left_out.append(z[:, :, 0])
            steps.append((white.mT @ z)[:, :, 0])
        whitened = torch.cat(steps).T
        moves = torch.linalg.solve_triangular(self._factor.T, whitened, upper=True).T
        return torch.cat(left_out), moves

    def influence(self, rows: Tensor, residuals: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)`` (LQF §4.6; `lqf.influence.influence` for the dual).

        Args:
            rows: J of the samples asked about, M × C × k.
            residuals: r of the training samples, N × C.

        Returns:
            M × N × C, float64.
        """
        return torch.einsum("tck,ik->tic", rows.double(), self._left_out(residuals)[1])

    def informativeness(self, rows: Tensor, residuals: Tensor) -> Tensor:
        """F-SI (LQF eq. 9): ``mean_t ‖f(x_t) − f₋ᵢ(x_t)‖²`` of every training sample.

        Where rows and residuals are those of `residual_probes`, so are these.

        Args:
            rows: J of the evaluation samples, M × C × k; or M × m × k of random combinations of
                their outputs, which estimate the sum over outputs without bias.
            residuals: r of the training samples, N × C.

        Returns:
            N, float64, in squared units of the outputs.
        """
        moves = self._left_out(residuals)[1]
        total = torch.zeros(len(moves), dtype=torch.float64, device=moves.device)
        for part in rows.split(self._step):
            total += (part.flatten(0, 1).double() @ moves.T).square().sum(0)
        return total / len(rows)


def residual_probes(residuals: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A few combinations of outputs that stand for all C in questions about a sample's effect.

    The first is along r_i, so that ``J_iᵀ r_i``, what the optimum owes to the sample, is kept; the
    others are a random orthonormal frame beside it, as long as makes ``E[V_i V_iᵀ] = I`` and so the
    expectation of ``Σ_i J_iᵀ V_i V_iᵀ J_i`` that of all outputs. Each sample then has m outputs
    ``V_iᵀ f``, m backward passes, for `Coordinates.rows` and `CompressedRidge`; with C of them
    everything is exact.

    Args:
        residuals: r of the training samples, N × C.
        count: m, from 2 to C.
        seed: of the frames.

    Returns:
        V, N × C × m, and ``V_iᵀ r_i``, N × m; both float64.

    Raises:
        ValueError: if the count is below 2 or above C.
    """
    N, C = residuals.shape
    if not min(2, C) <= count <= C:
        raise ValueError(
            f"count is {count}; it must be from {min(2, C)} to the number of outputs, {C}."
        )
    r = residuals.detach().double().cpu()
    generator = torch.Generator().manual_seed(seed)
    others = torch.randn(N, C, count - 1, generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(torch.cat([r[:, :, None], others], 2)).Q
    frame[:, :, 1:] *= ((C - 1) / max(1, count - 1)) ** 0.5
    frame = frame.to(residuals.device)
    return frame, (frame.mT @ residuals.double()[:, :, None])[:, :, 0]
