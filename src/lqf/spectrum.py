"""Eigenvalues of the Gauss–Newton matrix ``G = (1/N) Σ_i J_iᵀ H_i J_i`` (P × P) at some weights.

H_i is the Hessian of a sample's loss in its outputs: the identity for the squared loss, so that G is
``JᵀJ/N``, and ``diag(p) − ppᵀ`` for cross-entropy.  With ``H_i = S_i S_iᵀ``, G has the non-zero
eigenvalues of the Gram matrix ``SᵀKS/N``, ``K = JJᵀ`` (NC × NC).

G is rank deficient whenever NC < P, and the paper does not define the condition number of its
Figure 3.  Cut off at a fraction of the largest eigenvalue, κ is the inverse of that fraction for
every matrix; λ_max, λ1/λk at one k, and the effective dimension tell matrices apart.
"""

from __future__ import annotations

import torch
from torch import Tensor


def loss_gram(gram: Tensor, roots: Tensor) -> Tensor:
    """``SᵀKS``, NC × NC, float64: the Gram matrix of a loss's Gauss–Newton matrix.

    Args:
        gram: ``K = J Jᵀ``, NC × NC, rows sample by sample.
        roots: ``S_i`` with ``S_i S_iᵀ = H_i``, N × C × C (`lqf.losses.CrossEntropy.hessian_root`).
    """
    samples, outputs = roots.shape[:2]
    blocks = gram.to(torch.float64).reshape(samples, outputs, samples, outputs)
    roots = roots.to(torch.float64)
    weighted = torch.einsum("nac,namb,mbd->ncmd", roots, blocks, roots)
    return weighted.reshape(gram.shape)


def gram_eigenvalues(gram: Tensor, samples: int) -> Tensor:
    """All eigenvalues of ``K/N`` for K or ``SᵀKS``, NC × NC: the non-zero ones of G, and zeros up to NC of them.

    They are in descending order, float64, clipped at 0 (K is positive semidefinite).

    Raises:
        ValueError: if ``gram`` is not finite.
    """
    if not torch.isfinite(gram).all():
        raise ValueError("gram contains NaN or infinite entries; check the network's outputs.")
    matrix = gram.to(torch.float64)
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return eigenvalues.flip(0).clamp(min=0.0) / samples


def effective_dimension(eigenvalues: Tensor, ridge: float) -> float:
    """``Σ λ/(λ + ridge)`` of eigenvalues of G: how many directions the data determine rather than the ridge.

    The ridge is the weight decay of the mean loss, μ/N.

    Raises:
        ValueError: if the ridge is not positive.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; the effective dimension needs one above 0.")
    return float((eigenvalues / (eigenvalues + ridge)).sum())
