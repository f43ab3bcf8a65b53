"""How sure the outputs are, and the leverage of chosen samples of problems of any size.

With ``A = Σ_i J_iᵀJ_i + μI`` the covariance of the outputs at x_t, in units of the noise variance,
is ``J_t A⁻¹ J_tᵀ``; for a training sample it is the leverage H_ii.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lqf.influence.dual import DualRidge
from lqf.linear import Jacobian
from lqf.solve.dual_block import solve_dual_block
from lqf.solve.dual_pcg import DualPrecondition


def predictive_covariance(solution: DualRidge, cross_gram: Tensor, own: Tensor) -> Tensor:
    """``J_t A⁻¹ J_tᵀ = (K_tt − K_tX (K + μI)⁻¹ K_Xt) / μ`` from the dual, exactly.

    Args:
        solution: the dual solution of the N training samples, μ > 0.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
        own: ``K_tt`` of each of the M samples, M × C × C (M × 1 × 1 for a shared kernel).

    Returns:
        M × C × C (M × 1 × 1 for a shared kernel), float64.

    Raises:
        ValueError: if μ is 0 or the shapes do not belong together.
    """
    cross = solution.kernel_rows(cross_gram)
    blocks = (len(cross) // solution.block, solution.block, solution.block)
    if own.shape != blocks or solution.mu == 0:
        raise ValueError(
            f"own has shape {tuple(own.shape)} and mu is {solution.mu:g}; {blocks} is needed for "
            "these samples, and mu > 0."
        )
    half = torch.linalg.solve_triangular(solution.factor, cross.T, upper=False)
    half = half.T.reshape(blocks[0], blocks[1], -1)
    return (own.to(half) - half @ half.mT) / solution.mu


def selected_covariance(
    jacobian: Jacobian,
    asked: Jacobian,
    weight_decay: float,
    preconditioner: DualPrecondition,
    *,
    tolerance: float = 1e-6,
    max_passes: int = 50,
) -> Tensor:
    """``J_t A⁻¹ J_tᵀ`` of a few samples, to a residual: one right-hand side an output of each.

    ``A⁻¹ u = (u − Jᵀ(K + μI)⁻¹ J u) / μ``, so the solves are those of the dual with ``J u`` for
    a target.  Those of one sample run together (`lqf.solve.solve_dual_block`).

    Args:
        jacobian: J of the N training samples.
        asked: J of the M samples asked about.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: as in `solve_dual_block`.
        tolerance: relative residual of each solve.
        max_passes: budget for each sample.

    Returns:
        M × C × C, symmetric.
    """
    mu, blocks = jacobian.samples * weight_decay, []
    units = torch.eye(asked.outputs, dtype=asked.base.dtype, device=asked.base.device)
    for t in range(asked.samples):
        index = torch.tensor([t], device=asked.base.device)
        u = asked.pull(units[:, None, :], index)
        solved = solve_dual_block(
            jacobian,
            jacobian.forward(u),
            weight_decay,
            preconditioner=preconditioner,
            tolerance=tolerance,
            max_passes=max_passes,
        )
        block = asked.forward(u.sub_(solved.delta).div_(mu), index)[:, 0].T
        blocks.append((block + block.T) / 2)
    return torch.stack(blocks)


def selected_leverage(
    jacobian: Jacobian,
    index: Tensor,
    weight_decay: float,
    preconditioner: DualPrecondition,
    *,
    tolerance: float = 1e-6,
    max_passes: int = 50,
) -> Tensor:
    """Leverage ``H_ii = I − μ [(K + μI)⁻¹]_ii`` of some training samples, to a residual.

    The C solves of one sample run together.

    Args:
        jacobian: J of the N training samples.
        index: the samples.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: as in `solve_dual_block`.
        tolerance: relative residual of each of the |index|·C solves.
        max_passes: budget for each sample.

    Returns:
        |index| × C × C, symmetric.
    """
    mu, blocks = jacobian.samples * weight_decay, []
    eye = torch.eye(jacobian.outputs, dtype=jacobian.base.dtype, device=jacobian.base.device)
    for i in index.tolist():
        targets = eye.new_zeros(len(eye), *jacobian.base.shape)
        targets[:, i] = eye
        solved = solve_dual_block(
            jacobian,
            targets,
            weight_decay,
            preconditioner=preconditioner,
            tolerance=tolerance,
            max_passes=max_passes,
        )
        block = eye - mu * solved.coefficients[:, i]
        blocks.append((block + block.T) / 2)
    return torch.stack(blocks)
