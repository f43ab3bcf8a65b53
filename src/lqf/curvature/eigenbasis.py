"""Eigenbases of Kronecker factors.

A factor that is a second moment of fewer rows than it has columns, A = RᵀR with R r × d and
r < d, has at most r eigenvalues that are not 0; they and their vectors come from the r × r
matrix RRᵀ, and A itself is never formed.
"""

import torch
from torch import Tensor


def decompose(factor: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric factors, groups × d × d, found in float64.

    The values, groups × d, rise, are clipped at 0 and in float64; the vectors are columns, in the dtype of the factor.

    Raises:
        ValueError: if an entry is NaN or infinite; names the factor.
    """
    _refuse_nan(factor, name)
    matrix = factor.double()
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    # eigh returns column-major vectors; a file holds row-major ones. Same numbers either way.
    return values.clamp(min=0), vectors.to(factor.dtype).contiguous()


def decompose_root(root: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The eigenvalues that are not 0 of RᵀR, and their eigenvectors, without forming it.

    With RRᵀ = V diag(s) Vᵀ the columns of RᵀV are eigenvectors, but those of small s lose their
    right angles to rounding; a QR factorisation in the order of falling s restores them.

    Args:
        root: R, groups × r × d with r ≤ d.
        name: what to call the factor in an error.

    Returns:
        Eigenvalues, groups × k, float64, and eigenvectors as columns, groups × d × k, where k ≤ r leaves
        out what rounding cannot tell from 0 in any group.

    Raises:
        ValueError: if an entry is NaN or infinite.
    """
    _refuse_nan(root, name)
    gram = root @ root.mT
    _, V = torch.linalg.eigh((gram + gram.mT) / 2)
    Q, T = torch.linalg.qr(root.mT @ V.flip(-1))
    # RᵀR = Q (T Tᵀ) Qᵀ, and T Tᵀ is diagonal up to rounding.
    values = T.double().square().sum(-1)
    least = values.amax(-1, keepdim=True) * torch.finfo(root.dtype).eps
    kept = (values > least).any(0).nonzero().flatten()
    if len(kept) == 0:
        kept = kept.new_zeros(1)
    return values[:, kept], Q[..., kept].contiguous()


def _refuse_nan(factor: Tensor, name: str) -> None:
    if not bool(torch.isfinite(factor).all()):
        raise ValueError(
            f"The Kronecker factor {name} has NaN or infinite entries; check the weights and the "
            "images, or compute in float32 or float64."
        )
