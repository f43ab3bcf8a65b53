"""Curvature at w0: Kronecker factors of the Gauss–Newton matrix, and what they precondition."""

from lqf.curvature.coordinates import Coordinates
from lqf.curvature.eigenvalues import eigenvalue_correction
from lqf.curvature.factors import KroneckerBlock, KroneckerFactors, Provenance
from lqf.curvature.kronecker import kronecker_factors
from lqf.curvature.preconditioner import Preconditioner

__all__ = [
    "Coordinates",
    "KroneckerBlock",
    "KroneckerFactors",
    "Preconditioner",
    "Provenance",
    "eigenvalue_correction",
    "kronecker_factors",
]
