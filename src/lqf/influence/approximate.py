"""Informativeness and leave-one-out for problems whose Gram matrix does not fit.

Removing sample i changes the outputs by ``f(x_t) − f₋ᵢ(x_t) = J_t A₋ᵢ⁻¹ J_iᵀ r_i`` exactly, with
``A₋ᵢ = Σ_{j≠i} J_jᵀJ_j + μI`` and r_i the residual of the model that has seen i.  A Kronecker
approximation does not resolve the direction of a single sample, so ``P/N ≈ (G + (μ/N) I)⁻¹/N``
is taken for ``A₋ᵢ⁻¹``, not for ``A⁻¹``: no factor ``(I − H_ii)⁻¹`` is left to blow up, and with
``Q_i = J_i (P/N) J_iᵀ`` the leverage ``Q(I + Q)⁻¹`` stays below one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lqf.linear import DenseJacobian, Jacobian
from lqf.solve.protocol import Precondition, Progress


def fsi_kfac(
    jacobian: Jacobian,
    preconditioner: Precondition,
    residuals: Tensor,
    validation: Jacobian,
    *,
    probes: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:
    """F-SI (LQF eq. 9) of every training sample with a preconditioner for the inverse.

    The mean over evaluation outputs is a sum of squares of MC products.  They are put into
    ``probes`` groups with random signs, so that the expected square of a group is its sum of
    squares: the score's relative standard error is at most √(2/probes), and with MC probes there
    is none.  The cost is half a pass over the evaluation samples and half a pass over the
    training samples for each probe.

    Args:
        jacobian: J of the N training samples.
        preconditioner: ``P ≈ (G + (μ/N) I)⁻¹``, its damping at μ/N.
        residuals: ``αY − f`` at the optimum, N × C.
        validation: J of the M evaluation samples.
        probes: number of groups, at most MC of which are used.
        seed: of the grouping and the signs.
        progress: called as progress(done, total, note) after each probe.

    Returns:
        The scores, N, float64, in squared units of the outputs.

    Raises:
        ValueError: if there is no probe, or the shapes do not belong together.
    """
    if probes < 1:
        raise ValueError(f"probes is {probes}; at least 1 is needed.")
    if residuals.shape != jacobian.base.shape or validation.size != jacobian.size:
        raise ValueError(
            f"residuals has shape {tuple(residuals.shape)} and the evaluation Jacobian "
            f"{validation.size} parameters; the training Jacobian needs "
            f"{tuple(jacobian.base.shape)} and {jacobian.size}."
        )
    weights = residuals.to(torch.float64)
    total = torch.zeros(jacobian.samples, dtype=torch.float64, device=weights.device)
    count = min(probes, validation.samples * validation.outputs)
    for done, (index, cotangent) in enumerate(_groups(validation, count, seed)):
        direction = preconditioner.apply(validation.pull(cotangent, index))
        response = jacobian.forward(direction).to(torch.float64) / jacobian.samples
        total += (response * weights).sum(1).square()
        if progress is not None:
            progress(done + 1, count, "F-SI")
    return total / validation.samples


def kfac_leverage(jacobian: Jacobian, preconditioner: Precondition) -> Tensor:
    """Leverage blocks ``H_ii ≈ Q_i (I + Q_i)⁻¹`` with ``Q_i = J_i P J_iᵀ / N``.

    The cost is C half passes over the samples, and NC applications of the preconditioner.

    Args:
        jacobian: J of the N samples.
        preconditioner: ``P ≈ (G + (μ/N) I)⁻¹``.

    Returns:
        N × C × C, float64, eigenvalues in [0, 1).
    """
    Q = _left_out_leverage(jacobian, preconditioner)
    values, vectors = torch.linalg.eigh(Q)
    values = values.clamp(min=0.0)
    return (vectors * (values / (1.0 + values))[:, None]) @ vectors.mT


def kfac_leave_one_out(
    jacobian: Jacobian, preconditioner: Precondition, residuals: Tensor
) -> Tensor:
    """Leave-one-out residuals ``(I + Q_i) r_i``, approximately ``αy_i − f₋ᵢ(x_i)``.

    Args:
        jacobian: J of the N samples.
        preconditioner: ``P ≈ (G + (μ/N) I)⁻¹``.
        residuals: ``αY − f`` at the optimum, N × C.

    Returns:
        N × C, float64.
    """
    r = residuals.to(torch.float64)
    return r + (_left_out_leverage(jacobian, preconditioner) @ r[:, :, None])[:, :, 0]


def _groups(validation: Jacobian, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Disjoint groups of output coordinates with random signs.

    Yields:
        The samples of a group and their cotangents.
    """
    M, C = validation.samples, validation.outputs
    device, dtype = validation.base.device, validation.base.dtype
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(M, generator=generator)
    signs = 2.0 * torch.randint(2, (M * C,), generator=generator) - 1.0
    for part in torch.arange(M * C).tensor_split(count):
        places, inverse = (part // C).unique(return_inverse=True)
        cotangent = torch.zeros(len(places), C)
        cotangent[inverse, part % C] = signs[part]
        yield order[places].to(device), cotangent.to(device, dtype)


def _left_out_leverage(jacobian: Jacobian, preconditioner: Precondition) -> Tensor:
    N, C = jacobian.samples, jacobian.outputs
    eye = torch.eye(C, dtype=jacobian.base.dtype, device=jacobian.base.device)
    blocks = []
    for i in range(N):
        index = torch.tensor([i], device=jacobian.base.device)
        if isinstance(jacobian, DenseJacobian):
            rows = jacobian.matrix[i]
        else:
            rows = torch.stack([jacobian.pull(unit[None], index) for unit in eye])
        block = (rows @ preconditioner.apply(rows).T).to(torch.float64) / N
        blocks.append((block + block.T) / 2)
    return torch.stack(blocks)
