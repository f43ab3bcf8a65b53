"""How sure the outputs are, and the leverage of chosen samples of problems of any size.

With ``A = Σ_i J_iᵀJ_i + μI`` the covariance of the outputs at x_t, in units of the noise variance,
is ``J_t A⁻¹ J_tᵀ``; for a training sample it is the leverage H_ii.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lqf.influence.dual import DualRidge
from lqf.linear import Jacobian
from lqf.solve.dual_pcg import DualPrecondition, solve_dual_pcg


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
    """``J_t A⁻¹ J_tᵀ`` of a few samples, to a residual: one solve for each output of each.

    ``A⁻¹ u = (u − Jᵀ(K + μI)⁻¹ J u) / μ``, so the solves are those of the dual with ``J u`` for
    a target; they share the preconditioner.

    Args:
        jacobian: J of the N training samples.
        asked: J of the M samples asked about.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: as in `solve_dual_pcg`.
        tolerance: relative residual of each solve.
        max_passes: budget of each solve.

    Returns:
        M × C × C, symmetric.
    """
    mu, blocks = jacobian.samples * weight_decay, []
    units = torch.eye(asked.outputs, dtype=asked.base.dtype, device=asked.base.device)
    for t in range(asked.samples):
        index = torch.tensor([t], device=asked.base.device)
        columns = []
        for unit in units:
            u = asked.pull(unit[None], index)
            solved = solve_dual_pcg(
                jacobian,
                jacobian.forward(u),
                weight_decay,
                preconditioner=preconditioner,
                tolerance=tolerance,
                max_passes=max_passes,
            )
            columns.append(asked.forward((u - solved.delta) / mu, index)[0])
        block = torch.stack(columns, 1)
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

    Args:
        jacobian: J of the N training samples.
        index: the samples.
        weight_decay: wd > 0; μ = N·wd.
        preconditioner: as in `solve_dual_pcg`.
        tolerance: relative residual of each of the |index|·C solves.
        max_passes: budget of each solve.

    Returns:
        |index| × C × C, symmetric.
    """
    mu, blocks = jacobian.samples * weight_decay, []
    eye = torch.eye(jacobian.outputs, dtype=jacobian.base.dtype, device=jacobian.base.device)
    for i in index.tolist():
        columns = []
        for unit in eye:
            target = torch.zeros_like(jacobian.base)
            target[i] = unit
            solved = solve_dual_pcg(
                jacobian,
                target,
                weight_decay,
                preconditioner=preconditioner,
                tolerance=tolerance,
                max_passes=max_passes,
            )
            a = torch.zeros_like(target) if solved.coefficients is None else solved.coefficients
            columns.append(unit - mu * a[i])
        block = torch.stack(columns, 1)
        blocks.append((block + block.T) / 2)
    return torch.stack(blocks)
