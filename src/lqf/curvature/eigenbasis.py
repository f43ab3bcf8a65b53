"""Eigenbases of Kronecker factors, at the least cost that curvature has a use for.

Three things make them cheap:

- a factor that is a second moment of fewer rows than it has columns, A = RᵀR with R r × d and
  r < d, has at most r eigenvalues that are not 0; they and their vectors come from the r × r
  matrix RRᵀ, and A itself is never formed;
- a large factor in float32 is decomposed in float32, which takes a third of the time and is off by
  some 1e-5 of the factor's norm, far less than the samples that it is a mean of; the decomposition
  is checked against the factor, and one that is off by about 1e-4 is done again in float64;
- small factors, and those in float64, are decomposed in float64 as they are.
"""

import logging

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)

# Factors up to this size are decomposed in float64 whatever their dtype, and are never thin.
_SMALL = 1024


def decompose(factor: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a symmetric factor.

    Args:
        factor: groups × d × d.
        name: what to call it in an error.

    Returns:
        Eigenvalues clipped at 0, groups × d, float64, and eigenvectors as columns, groups × d × d,
        in the dtype of the factor.

    Raises:
        ValueError: if an entry is NaN or infinite.
    """
    _refuse_nan(factor, name)
    if factor.dtype == torch.float32 and factor.shape[-1] > _SMALL:
        symmetric = (factor + factor.mT) / 2
        values, vectors = torch.linalg.eigh(symmetric)
        if _agrees(symmetric, values, vectors):
            return values.clamp(min=0).double(), vectors.contiguous()
        _LOG.info("decomposing %s again in float64: float32 was not accurate", name)
    matrix = factor.double()
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    # eigh returns column-major vectors; a file holds row-major ones. Same numbers either way.
    return values.clamp(min=0), vectors.to(factor.dtype).contiguous()


def decompose_root(root: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues that are not 0 of RᵀR, and their eigenvectors, without forming it.

    With RRᵀ = V diag(s) Vᵀ the columns of RᵀV are eigenvectors, but those of small s lose their
    right angles to rounding; a QR factorisation in the order of falling s restores them.

    Args:
        root: R, groups × r × d with r ≤ d.
        name: what to call the factor in an error.

    Returns:
        Eigenvalues, groups × k, float64, and eigenvectors as columns, groups × d × k, in the dtype
        of the root, where k ≤ r leaves out what rounding cannot tell from 0 in any group.

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


def _agrees(matrix: Tensor, values: Tensor, vectors: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(matrix.shape[-1], 4, generator=generator).to(matrix)
    product = matrix @ probe
    rebuilt = vectors @ (values.unsqueeze(-1) * (vectors.mT @ probe))
    right = vectors @ (vectors.mT @ probe)
    # LAPACK's are within 5 √d ε where they converge, whatever the spectrum.
    allowed = 16 * len(probe) ** 0.5 * torch.finfo(matrix.dtype).eps
    difference = (product - rebuilt).norm() / product.norm().clamp(min=torch.finfo().tiny)
    turned = (right - probe).norm() / probe.norm()
    return bool(difference <= allowed) and bool(turned <= allowed)


def _refuse_nan(factor: Tensor, name: str) -> None:
    if not bool(torch.isfinite(factor).all()):
        raise ValueError(
            f"The Kronecker factor {name} has NaN or infinite entries; check the weights and the "
            "images, or compute in float32 or float64."
        )
