"""The ridge problem in its dual, solved once: every exact score is read off this solution.

With ``K = J Jᵀ`` (NC × NC) and ``R = αY − f0``, the minimiser of ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``
(sum over samples and outputs) is ``δ* = Jᵀ a`` with ``a = (K + μI)⁻¹ vec(R)``.  P × P matrices
are never formed, and two identities make removal cheap: the residual is ``r = μ a``, and the
leverage block ``H_ii = J_i A⁻¹ J_iᵀ`` with ``A = JᵀJ + μI`` is ``I − μ G_ii``, where
``G = (K + μI)⁻¹``.

A head on features shares one N × N kernel k between all outputs, ``K = k ⊗ I_C``.  Passing k
itself gives the same numbers from blocks of size one.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

_ASYMMETRY = 1e-3


def sample_rows(index: Tensor, block: int) -> Tensor:
    """Return the rows of a sample-major matrix that belong to the samples in ``index``."""
    offsets = torch.arange(block, device=index.device)
    return (index[:, None] * block + offsets).reshape(-1)


def checked_gram(gram: Tensor, target: Tensor, mu: float) -> Tensor:
    """The Gram matrix in float64, made exactly symmetric.

    Args:
        gram: K, NC × NC in sample-major order, or the shared kernel k, N × N.
        target: R, N × C.
        mu: μ.

    Returns:
        The symmetric float64 matrix.

    Raises:
        ValueError: if the shapes do not belong together, an entry is not finite, the matrix is
            not symmetric, or μ is negative.
    """
    if target.ndim != 2 or not target.shape[0]:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; it must be N × C with at least one sample."
        )
    N, C = target.shape
    if gram.shape not in {(N * C, N * C), (N, N)}:
        raise ValueError(
            f"gram has shape {tuple(gram.shape)}; for a target of {N} samples and {C} outputs it "
            f"must be {N * C} × {N * C}, or {N} × {N} when all outputs share one kernel."
        )
    if not mu >= 0:
        raise ValueError(f"mu is {mu}; the ridge constant must be at least 0.")
    for name, matrix in (("gram", gram), ("target", target)):
        if not torch.isfinite(matrix).all():
            raise ValueError(
                f"{name} contains NaN or infinite entries; check the network's outputs before "
                "scoring samples with it."
            )
    matrix = gram.to(torch.float64)
    gap = (matrix - matrix.T).abs().max()
    if gap > _ASYMMETRY * matrix.abs().max():
        raise ValueError(
            f"gram differs from its transpose by {gap.item():.2g}; it must be the symmetric K of "
            "the training samples (cross_gram is the matrix between two sets)."
        )
    return (matrix + matrix.T) / 2


class DualRidge:
    """The dual solution at one μ, with the inverse that leave-one-out and influence need.

    Everything is computed in float64.  The cost is one Cholesky inverse, O((NC)³).

    Args:
        gram: K, NC × NC, rows in sample-major order (``i·C + c``); or the kernel k, N × N, that
            all outputs share (a head: ``K = k ⊗ I_C``).
        target: R = αY − f0, N × C.
        mu: μ ≥ 0 in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²`` (sum over samples and outputs).

    Raises:
        ValueError: if the shapes do not belong together, an entry is not finite, μ is negative,
            or K + μI is not positive definite.
    """

    def __init__(self, gram: Tensor, target: Tensor, mu: float) -> None:
        matrix = checked_gram(gram, target, mu)
        eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        factor, failed = torch.linalg.cholesky_ex(matrix + mu * eye)
        if failed:
            least = 1e-12 * matrix.diagonal().max().item() * len(matrix)
            raise ValueError(
                f"K + mu I is not positive definite at mu = {mu:.3g}: the samples' Jacobians are "
                f"linearly dependent to rounding; use mu of at least {least:.1g}."
            )
        self.gram = matrix
        self.target = target.to(torch.float64)
        self.mu = float(mu)
        self.block = matrix.shape[0] // target.shape[0]
        self.factor = factor
        self.coefficients = _coefficients(factor, self.target)

    @classmethod
    def from_factor(cls, gram: Tensor, factor: Tensor, target: Tensor, mu: float) -> DualRidge:
        """Return the solution whose Cholesky factor is already known.

        Args:
            gram: K, symmetric, float64.
            factor: lower triangular L with ``L Lᵀ = K + μI``.
            target: R, N × C, float64.
            mu: μ.

        Returns:
            The solution, without a new factorisation.
        """
        result = cls.__new__(cls)
        result.gram, result.target, result.mu, result.factor = gram, target, mu, factor
        result.block = len(gram) // len(target)
        result.coefficients = _coefficients(factor, target)
        return result

    @classmethod
    def from_inverse(
        cls, gram: Tensor, inverse: Tensor, target: Tensor, mu: float, coefficients: Tensor
    ) -> DualRidge:
        """Return the solution whose inverse is already known.

        Args:
            gram: K, symmetric, float64.
            inverse: ``(K + μI)⁻¹``.
            target: R, N × C, float64.
            mu: μ.
            coefficients: a, N × C.

        Returns:
            The solution; its factor is computed if it is asked for.
        """
        result = cls.__new__(cls)
        result.gram, result.target, result.mu = gram, target, mu
        result.block = len(gram) // len(target)
        result.coefficients = coefficients
        result.inverse = (inverse + inverse.T) / 2
        return result

    @cached_property
    def factor(self) -> Tensor:
        """Lower triangular L with ``L Lᵀ = K + μI``."""
        eye = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        return torch.linalg.cholesky(self.gram + self.mu * eye)

    @cached_property
    def inverse(self) -> Tensor:
        """``G = (K + μI)⁻¹``."""
        return torch.cholesky_inverse(self.factor)

    @property
    def samples(self) -> int:
        """N."""
        return self.target.shape[0]

    @property
    def outputs(self) -> int:
        """C."""
        return self.target.shape[1]

    def residuals(self) -> Tensor:
        """Return ``r = R − J δ* = μ a``, N × C."""
        return self.mu * self.coefficients

    def inverse_blocks(self) -> Tensor:
        """Return the diagonal blocks ``G_ii``: N × C × C, or N × 1 × 1 for a shared kernel."""
        N, b = self.samples, self.block
        return self.inverse.reshape(N, b, N, b).diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def leverage(self) -> Tensor:
        """Return ``H_ii = J_i A⁻¹ J_iᵀ``, N × C × C, or N × 1 × 1 (h_i) for a shared kernel."""
        eye = torch.eye(self.block, dtype=self.inverse.dtype, device=self.inverse.device)
        return eye - self.mu * self.inverse_blocks()

    def leave_one_out(self) -> Tensor:
        """Return ``G_ii⁻¹ a_i``, the residual of each sample under the model without it, N × C."""
        columns = self.coefficients.reshape(self.samples, self.block, -1)
        solved = torch.linalg.solve(self.inverse_blocks(), columns)
        return solved.reshape(self.target.shape)

    def rows(self, index: Tensor) -> Tensor:
        """Return the rows of the Gram matrix that belong to the samples in ``index``."""
        return sample_rows(index, self.block)

    def kernel_rows(self, cross_gram: Tensor) -> Tensor:
        """A checked float64 copy of ``K_tX``.

        Args:
            cross_gram: MC × NC, or M × N for a shared kernel.

        Returns:
            The same matrix in float64.

        Raises:
            ValueError: if its shape does not fit the training samples, or an entry is not finite.
        """
        if (
            cross_gram.ndim != 2
            or cross_gram.shape[1] != len(self.gram)
            or cross_gram.shape[0] % self.block
        ):
            raise ValueError(
                f"cross_gram has shape {tuple(cross_gram.shape)}; its columns must be the "
                f"{len(self.gram)} rows of gram and its rows a multiple of {self.block}."
            )
        if not torch.isfinite(cross_gram).all():
            raise ValueError(
                "cross_gram contains NaN or infinite entries; check the evaluation images."
            )
        return cross_gram.to(self.gram)

    def predict(self, cross_gram: Tensor) -> Tensor:
        """``J_t δ*``, the change of the outputs from f0 at other inputs, M × C.

        Args:
            cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).

        Returns:
            ``J_t δ*``, M × C.
        """
        cross = self.kernel_rows(cross_gram)
        return (cross @ self.coefficients.reshape(len(self.gram), -1)).reshape(-1, self.outputs)

    def respond(self, cross_gram: Tensor, cotangent: Tensor) -> Tensor:
        """``J_t A⁻¹ J_iᵀ z_i`` for every input t and training sample i, M × N × C.

        Args:
            cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
            cotangent: z, N × C, one vector for each training sample.

        Returns:
            The response of the outputs at t to z_i, M × N × C.
        """
        b = self.block
        weights = (self.kernel_rows(cross_gram) @ self.inverse).reshape(-1, b, self.samples, b)
        columns = cotangent.to(self.gram).reshape(self.samples, b, -1)
        return torch.einsum("tpnq,nqk->tnpk", weights, columns).reshape(
            weights.shape[0], self.samples, self.outputs
        )


def _coefficients(factor: Tensor, target: Tensor) -> Tensor:
    return torch.cholesky_solve(target.reshape(len(factor), -1), factor).reshape(target.shape)


def head_gram(features: Tensor, others: Tensor | None = None) -> Tensor:
    """The kernel that the outputs of a linear head with bias share, ``[φ,1][φ',1]ᵀ``.

    Args:
        features: φ, N × F.
        others: φ', M × F; None means φ itself.

    Returns:
        k, N × M, in float64.
    """
    first = features.to(torch.float64)
    second = first if others is None else others.to(torch.float64)
    return first @ second.T + 1.0


def head_leverage(features: Tensor, mu: float) -> Tensor:
    """The leverage ``h_i = [φ_i,1]ᵀ(ΦᵀΦ + μI)⁻¹[φ_i,1]`` of a head, in the smaller space.

    Args:
        features: φ, N × F.
        mu: μ > 0.

    Returns:
        h, N, in float64; all outputs have the same one (``H_ii = h_i I``).

    Raises:
        ValueError: if μ is not positive.
    """
    if not mu > 0:
        raise ValueError(f"mu is {mu}; the leverage of a head needs a positive ridge constant.")
    bias = features.new_ones(len(features), 1)
    phi = torch.cat([features, bias], 1).to(torch.float64)
    U, S, _ = torch.linalg.svd(phi, full_matrices=False)
    shrink = S.square() / (S.square() + mu)
    return (U.square() * shrink).sum(1)
