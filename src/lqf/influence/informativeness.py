"""How much a training sample matters to the outputs elsewhere (LQF §4.6).

``F-SI_i = mean_t ‖f(x_t) − f₋ᵢ(x_t)‖²`` (LQF eq. 9) over M evaluation inputs, where f₋ᵢ is the
optimum without sample i at unchanged μ.  The exact difference is ``K_tX G[:,i] G_ii⁻¹ a_i``.
The constant 1/(2σ²) of Harutyunyan et al. (2021) is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lqf.influence.dual import DualRidge

_BYTES = 2**28


def influence(solution: DualRidge, cross_gram: Tensor) -> Tensor:
    """``f(x_t) − f₋ᵢ(x_t)`` for every evaluation input t and training sample i (exact).

    Args:
        solution: the dual solution of the N training samples.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).

    Returns:
        M × N × C.
    """
    return solution.respond(cross_gram, solution.leave_one_out())


def functional_sample_information(
    gram: Tensor, cross_gram: Tensor, target: Tensor, mu: float
) -> Tensor:
    """F-SI of every training sample, exactly as N retrainings would give it (LQF eq. 9).

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
        target: R = αY − f0, N × C.
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.

    Returns:
        The scores, N, in squared units of the outputs.
    """
    solution = DualRidge(gram, target, mu)
    return mean_squared_response(solution, cross_gram, solution.leave_one_out())


def fsi_eq8(gram: Tensor, cross_gram: Tensor, target: Tensor, mu: float) -> Tensor:
    """F-SI of every training sample from LQF eq. 8 as it is printed.

    With ``F = JᵀJ/N``, ``λ = μ/N`` and ``e_i = r_i/N``, eq. 8 reads ``f(x_t) − f₋ᵢ(x_t) =
    g_tᵀ(F+λI)⁻¹g_i [1 − α_i/(N−1+α_i)] e_i`` with ``α_i = g_iᵀ(F+λI)⁻¹g_i``.  For several outputs
    the matrix reading is taken: ``α_i = J_i(F+λI)⁻¹J_iᵀ = N H_ii`` (C × C) and the bracket is
    ``(N−1)((N−1)I + α_i)⁻¹``, which acts on e_i.  It is the reading under which the printed
    formula is the exact effect of *adding* sample i, once F, λ and e_i are those of the other
    N−1 samples (Sherman–Morrison–Woodbury).  With the quantities of all N samples, as printed, the
    bracket shrinks the effect where removal amplifies it (``(I − H_ii)⁻¹``), so the score is an
    approximation; compare with `functional_sample_information`.

    Args:
        gram: K, NC × NC, or the shared kernel, N × N.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
        target: R = αY − f0, N × C.
        mu: μ in ``Σ‖R_i − J_i δ‖² + μ‖δ‖²``.

    Returns:
        The scores, N, in squared units of the outputs.
    """
    solution = DualRidge(gram, target, mu)
    return mean_squared_response(solution, cross_gram, _eq8_cotangent(solution))


def eq8_effect(solution: DualRidge, cross_gram: Tensor) -> Tensor:
    """The left side of LQF eq. 8 as printed, for every input and training sample.

    Args:
        solution: the dual solution of the N training samples.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).

    Returns:
        M × N × C; `fsi_eq8` states the reading for several outputs.
    """
    return solution.respond(cross_gram, _eq8_cotangent(solution))


def mean_squared_response(solution: DualRidge, cross_gram: Tensor, cotangent: Tensor) -> Tensor:
    """``mean_t ‖J_t A⁻¹ J_iᵀ z_i‖²`` for every training sample, in blocks of inputs.

    Args:
        solution: the dual solution of the N training samples.
        cross_gram: ``K_tX``, MC × NC (M × N for a shared kernel).
        cotangent: z, N × C.

    Returns:
        N.
    """
    total = torch.zeros(solution.samples, dtype=torch.float64, device=cross_gram.device)
    for part in _blocks(solution, cross_gram):
        total += solution.respond(part, cotangent).square().sum(dim=(0, 2))
    return total / (len(cross_gram) // solution.block)


def _eq8_cotangent(solution: DualRidge) -> Tensor:
    N = solution.samples
    leverage = solution.leverage()
    eye = torch.eye(solution.block, dtype=leverage.dtype, device=leverage.device)
    bracket = (N - 1) * eye + N * leverage
    residuals = solution.residuals().reshape(N, solution.block, -1)
    return torch.linalg.solve(bracket, (N - 1) * residuals).reshape(solution.target.shape)


def _blocks(solution: DualRidge, cross_gram: Tensor) -> Iterator[Tensor]:
    width = max(1, _BYTES // (8 * solution.samples * solution.outputs * solution.block))
    yield from cross_gram.split(width * solution.block)
