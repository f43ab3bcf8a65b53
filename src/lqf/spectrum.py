"""Eigenvalues of the Gauss–Newton matrix ``G = (1/N) Σ_i J_iᵀ J_i`` (P × P) at w0.

G and ``K/N`` share their non-zero eigenvalues, so small problems are solved densely with the Gram
matrix K (NC × NC).  For others, Lanczos needs only products ``G v``.  κ has no definition in the
paper (LQF Fig. 3); ours is `condition_number`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lqf.linear import Jacobian

Matvec = Callable[[Tensor], Tensor]


def gram_eigenvalues(gram: Tensor, samples: int) -> Tensor:
    """All eigenvalues of ``K/N``: the non-zero ones of G, and zeros up to NC of them.

    Args:
        gram: ``K = J Jᵀ``, NC × NC.
        samples: N.

    Returns:
        NC eigenvalues in descending order, float64, clipped at 0 (K is positive semidefinite).

    Raises:
        ValueError: if ``gram`` is not square, not finite, or no sample is counted.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not gram.shape[0]:
        raise ValueError(f"gram has shape {tuple(gram.shape)}; it must be NC × NC.")
    if samples < 1:
        raise ValueError(f"samples is {samples}; N must be at least 1.")
    if not torch.isfinite(gram).all():
        raise ValueError("gram contains NaN or infinite entries; check the network's outputs.")
    matrix = gram.to(torch.float64)
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return eigenvalues.flip(0).clamp(min=0.0) / samples


def rank_kept(eigenvalues: Tensor, cutoff: float = 1e-6) -> int:
    """Number of eigenvalues above ``cutoff · λ_max``.

    Args:
        eigenvalues: any order.
        cutoff: relative to the largest, in [0, 1).

    Returns:
        How many are kept.

    Raises:
        ValueError: if the cutoff is outside [0, 1).
    """
    if not 0 <= cutoff < 1:
        raise ValueError(
            f"cutoff is {cutoff}; it is relative to the largest eigenvalue, in [0, 1)."
        )
    return int((eigenvalues > cutoff * eigenvalues.max()).sum())


def condition_number(eigenvalues: Tensor, cutoff: float = 1e-6) -> float:
    """``κ = λ_max / λ_min``, λ_min being the smallest eigenvalue above ``cutoff · λ_max``.

    The Gauss–Newton matrix is rank deficient whenever NC < P, so κ means nothing without a cutoff;
    state it beside the number.

    Args:
        eigenvalues: any order.
        cutoff: relative to the largest, in [0, 1).

    Returns:
        κ ≥ 1.

    Raises:
        ValueError: if no eigenvalue is positive, or the cutoff is outside [0, 1).
    """
    largest = eigenvalues.max().item()
    if not largest > 0:
        raise ValueError(
            f"the largest eigenvalue is {largest:.3g}; a condition number needs a positive one."
        )
    rank_kept(eigenvalues, cutoff)
    return largest / eigenvalues[eigenvalues > cutoff * largest].min().item()


def gauss_newton_matvec(jacobian: Jacobian) -> Matvec:
    """``v ↦ G v`` with ``G = JᵀJ/N``, one pass over the data.

    Args:
        jacobian: J, NC × P.

    Returns:
        A function from P to P.
    """
    return lambda vector: jacobian.pass_(vector, lambda change, _: change)[1] / jacobian.samples


@dataclass(frozen=True)
class Lanczos:
    """What k steps of Lanczos know of a symmetric matrix.

    Args:
        values: Ritz values in descending order, k.
        weights: squared first components of their eigenvectors, k; with the values they are the
            Gauss quadrature of the spectral density seen from the start vector (they sum to one).
        bounds: for each Ritz value, a distance within which an eigenvalue lies, k.
    """

    values: Tensor
    weights: Tensor
    bounds: Tensor


def lanczos_spectrum(
    matvec: Matvec,
    size: int,
    steps: int,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Lanczos:
    """Lanczos with full reorthogonalisation (twice), from a random start.

    Stops early when the Krylov space is exhausted; it then holds every distinct eigenvalue that
    the start vector sees, which is all of them with probability one.  Memory: steps × size.

    Args:
        matvec: v ↦ M v for a symmetric M (size × size).
        size: P.
        steps: k, at most P products.
        seed: of the Gaussian start vector.
        dtype: of the vectors; the small eigenproblem is always float64.
        device: of the vectors.

    Returns:
        Ritz values with weights and error bounds.

    Raises:
        ValueError: if steps or size is below 1, or a product is not finite.
    """
    if size < 1 or steps < 1:
        raise ValueError(f"size is {size} and steps is {steps}; both must be at least 1.")
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    vector = (start / start.norm()).to(dtype=dtype, device=device)
    basis = vector.new_empty(min(steps, size), size)
    alphas: list[float] = []
    betas: list[float] = []
    for k in range(len(basis)):
        basis[k] = vector
        image = matvec(vector)
        if not torch.isfinite(image).all():
            raise ValueError(
                f"the product of Lanczos step {k + 1} is not finite; check the matvec."
            )
        alphas.append((vector @ image).item())
        for _ in range(2):
            image = image - basis[: k + 1].T @ (basis[: k + 1] @ image)
        betas.append(image.norm().item())
        scale = max(abs(a) for a in alphas) + max(betas[:-1], default=0.0)
        if betas[-1] <= torch.finfo(dtype).eps * size**0.5 * scale:
            betas[-1] = 0.0
            break
        vector = image / betas[-1]
    k = len(alphas)
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.tensor(betas[: k - 1], dtype=torch.float64)
    tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return Lanczos(
        values.flip(0),
        vectors[0].square().flip(0),
        (betas[k - 1] * vectors[-1].abs()).flip(0),
    )


def lanczos_extremes(
    matvec: Matvec,
    size: int,
    steps: int,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[float, float]:
    """Smallest and largest Ritz value of `lanczos_spectrum`.

    They lie inside the true range: the largest never exceeds λ_max, the smallest is never below
    λ_min.

    Args:
        matvec: v ↦ M v for a symmetric M (size × size).
        size: P.
        steps: k.
        seed: of the start vector.
        dtype: of the vectors.
        device: of the vectors.

    Returns:
        (smallest, largest).
    """
    values = lanczos_spectrum(matvec, size, steps, seed, dtype=dtype, device=device).values
    return values[-1].item(), values[0].item()
