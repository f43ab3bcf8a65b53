"""Removing and adding samples at unchanged μ: the retrained optimum without retraining.

Without the set S, ``δ₋S = Jᵀ(a − G[:,S] G_SS⁻¹ a_S)``, whose entries at S are zero.  New samples
extend the Cholesky factor of ``K + μI`` by their rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lqf.influence.dual import DualRidge, checked_gram


def removed_coefficients(solution: DualRidge, index: Tensor) -> Tensor:
    """Dual coefficients of the optimum without the samples in ``index``.

    Args:
        solution: the dual solution of all N samples.
        index: the samples to remove, each once.

    Returns:
        N × C, zero at the removed samples, so that ``δ = Jᵀ a`` over all N rows.
    """
    out = checked_index(index, solution.samples)
    rows = solution.rows(out)
    flat = solution.coefficients.reshape(len(solution.gram), -1)
    step = torch.linalg.solve(solution.inverse[rows][:, rows], flat[rows])
    remaining = flat - solution.inverse[:, rows] @ step
    remaining[rows] = 0.0
    return remaining.reshape(solution.target.shape)


def removal_effect(solution: DualRidge, cross_gram: Tensor, index: Tensor) -> Tensor:
    """``f(x_t) − f₋S(x_t)``: what the outputs lose when the samples in ``index`` are removed.

    Args:
        solution: the dual solution of all N samples.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
        index: the set S, each sample once.

    Returns:
        M × C.
    """
    change = solution.coefficients - removed_coefficients(solution, index)
    cross = solution.kernel_rows(cross_gram)
    return (cross @ change.reshape(len(solution.gram), -1)).reshape(-1, solution.outputs)


def remove(solution: DualRidge, index: Tensor) -> DualRidge:
    """The dual solution of the remaining samples, O((NC)²|S|C) instead of O((NC)³).

    Args:
        solution: the dual solution of all N samples; not changed.
        index: the samples to remove, each once.

    Returns:
        The solution of the N − |S| others, in their order, ready for further updates.
    """
    out = checked_index(index, solution.samples)
    stay = torch.ones(solution.samples, dtype=torch.bool, device=out.device)
    stay[out] = False
    kept = stay.nonzero().squeeze(1)
    rows, gone = solution.rows(kept), solution.rows(out)
    G = solution.inverse
    cross = G[rows][:, gone]
    inverse = G[rows][:, rows] - cross @ torch.linalg.solve(G[gone][:, gone], cross.T)
    coefficients = removed_coefficients(solution, out)[kept]
    gram = solution.gram[rows][:, rows]
    target = solution.target[kept]
    return DualRidge.from_inverse(gram, inverse, target, solution.mu, coefficients)


def add(solution: DualRidge, cross_gram: Tensor, gram: Tensor, target: Tensor) -> DualRidge:
    """The dual solution with n further samples, O((NC)² nC) instead of O((NC)³).

    Args:
        solution: the dual solution of the N samples so far; not changed.
        cross_gram: ``K_nX``, nC × NC (n × N for a shared kernel).
        gram: ``K_nn``, nC × nC (n × n for a shared kernel).
        target: R of the new samples, n × C.

    Returns:
        The solution of all N + n samples, the new ones last.

    Raises:
        ValueError: if the shapes do not belong together, an entry is not finite, or the enlarged
            matrix is not positive definite.
    """
    own = checked_gram(gram, target, solution.mu)
    cross = solution.kernel_rows(cross_gram)
    if target.shape[1] != solution.outputs or own.shape[0] != cross.shape[0]:
        raise ValueError(
            f"the new samples' target has {target.shape[1]} outputs, gram {own.shape[0]} rows and "
            f"cross_gram {cross.shape[0]}; the solution has {solution.outputs} outputs, and both "
            "matrices need the same rows."
        )
    # Extending the Cholesky factor loses eps·cond, updating the inverse would lose eps·cond².
    eye = torch.eye(len(own), dtype=own.dtype, device=own.device)
    left = torch.linalg.solve_triangular(solution.factor, cross.T, upper=False).T
    corner, failed = torch.linalg.cholesky_ex(own + solution.mu * eye - left @ left.T)
    if failed:
        raise ValueError(
            f"K + mu I of the enlarged set is not positive definite at mu = {solution.mu:.3g}; "
            "cross_gram and gram do not belong to the same Jacobians, or mu is too small."
        )
    above = left.new_zeros(len(left.T), len(own))
    factor = torch.cat([torch.cat([solution.factor, above], 1), torch.cat([left, corner], 1)])
    whole = torch.cat([torch.cat([solution.gram, cross.T], 1), torch.cat([cross, own], 1)])
    targets = torch.cat([solution.target, target.to(own)])
    return DualRidge.from_factor(whole, factor, targets, solution.mu)


def checked_index(index: Tensor, samples: int) -> Tensor:
    """The samples to remove, as a vector of distinct positions.

    Args:
        index: integer positions.
        samples: N.

    Returns:
        The same positions as int64.

    Raises:
        ValueError: if a position is outside 0 … N−1 or given twice, or none or all are given.
    """
    if index.numel() == 0:
        index = index.reshape(-1).long()  # an empty list has no type of its own
    if index.ndim != 1 or index.dtype.is_floating_point or index.dtype is torch.bool:
        raise ValueError(
            f"index has shape {tuple(index.shape)} and type {index.dtype}; give a vector of integer "
            "sample positions."
        )
    positions = index.to(torch.int64)
    outside = positions[(positions < 0) | (positions >= samples)]
    if len(outside):
        raise ValueError(
            f"index contains {outside[0].item()}; the {samples} samples have positions 0 to "
            f"{samples - 1}."
        )
    if len(positions.unique()) != len(positions):
        raise ValueError("index names a sample more than once; give each position once.")
    if not 0 < len(positions) < samples:
        raise ValueError(
            f"index names {len(positions)} of {samples} samples; remove at least one and leave at "
            "least one."
        )
    return positions
