"""Closed forms: heads, and any problem small enough for its Gram matrix.

Here the ridge constant is μ of the sum form Σ_i ‖R_i − J_iδ‖² + μ‖δ‖², so μ = N·weight_decay.
"""

import torch
from torch import Tensor


def solve_head(features: Tensor, target: Tensor, mu: float) -> tuple[Tensor, Tensor]:
    """Return the ridge solution of a linear head on fixed features.

    Minimises Σ_i ‖R_i − Wφ_i − b‖² + μ(‖W‖² + ‖b‖²): the bias is regularised like every other
    parameter, because δ is. Solves with F + 1 or N unknowns, whichever is fewer.

    Args:
        features: φ, N × F.
        target: R = αY − f0, N × C.
        mu: μ ≥ 0; at 0 the solution of least norm.

    Returns:
        Increments of the weight (C × F) and of the bias (C).

    Raises:
        ValueError: if shapes disagree, μ is negative, or an entry is NaN or infinite.
    """
    if features.ndim != 2 or target.ndim != 2 or len(features) != len(target):
        raise ValueError(
            f"features has shape {tuple(features.shape)} and target {tuple(target.shape)}; N × F "
            "and N × C with the same N are needed."
        )
    _check(features, target, mu, "features")
    phi = torch.cat([features, features.new_ones(len(features), 1)], dim=1).double()
    if mu > 0 and len(phi) < phi.shape[1]:
        both = phi.T @ _solve_shifted(phi @ phi.T, target.double(), mu)
    elif mu > 0:
        both = _solve_shifted(phi.T @ phi, phi.T @ target.double(), mu)
    else:
        both = torch.linalg.pinv(phi) @ target.double()
    both = both.to(target)
    return both[:-1].T.contiguous(), both[-1].clone()


def solve_dual(gram: Tensor, target: Tensor, mu: float) -> Tensor:
    """Return a = (K + μI)⁻¹ vec(R), so that δ = Jᵀa, the dual form.

    Args:
        gram: K = JJᵀ, NC × NC with rows in the order i·C + c; or N × N for a kernel that all
            outputs share (a head on fixed features).
        target: R, N × C.
        mu: μ ≥ 0; at 0 the solution of least norm.

    Returns:
        a, N × C; `jacobian.pull(a)` is δ.

    Raises:
        ValueError: if shapes disagree, μ is negative, or an entry is NaN or infinite.
    """
    right = as_right_hand_side(gram, target)
    _check(gram, target, mu, "gram")
    matrix = gram.double()
    if mu > 0:
        solution = _solve_shifted(matrix, right, mu)
    else:
        solution = torch.linalg.pinv(matrix, hermitian=True) @ right
    return solution.reshape(target.shape).to(target)


def as_right_hand_side(gram: Tensor, target: Tensor) -> Tensor:
    """Return R in the shape that belongs to the Gram matrix, in float64.

    Args:
        gram: K, NC × NC or N × N.
        target: R, N × C.

    Returns:
        vec(R), NC × 1, or R itself, N × C, for a shared kernel.

    Raises:
        ValueError: if the Gram matrix has neither shape.
    """
    if target.ndim == 2 and gram.ndim == 2 and gram.shape[0] == gram.shape[1]:
        if len(gram) == target.numel():
            return target.reshape(-1, 1).double()
        if len(gram) == len(target):
            return target.double()
    raise ValueError(
        f"gram has shape {tuple(gram.shape)} and target {tuple(target.shape)}; for a target N × C "
        "the Gram matrix is NC × NC (sample-major), or N × N if all outputs share one kernel."
    )


def _solve_shifted(matrix: Tensor, right: Tensor, mu: float) -> Tensor:
    """Return (matrix + μI)⁻¹ right for a positive semi-definite matrix."""
    shifted = matrix.clone()
    shifted.diagonal().add_(mu)
    factor, info = torch.linalg.cholesky_ex(shifted)
    if int(info) == 0:
        return torch.cholesky_solve(right, factor)
    # μ is below the rounding of the matrix: clip its eigenvalues at 0, as its construction says.
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ ((vectors.T @ right) / (values.clamp(min=0) + mu).unsqueeze(1))


def _check(matrix: Tensor, target: Tensor, mu: float, name: str) -> None:
    if not 0 <= mu < float("inf"):
        raise ValueError(
            f"mu is {mu!r}; the ridge constant must be a finite number ≥ 0 (μ = N·weight_decay)."
        )
    for what, tensor in ((name, matrix), ("target", target)):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{what} has NaN or infinite entries; check the network's outputs.")
