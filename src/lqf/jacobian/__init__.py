"""Linearised networks: ``f0(x) + J(x) δ`` and products with J."""

from lqf.jacobian.augmented import AugmentedFeatureJacobian, AugmentedNetworkJacobian
from lqf.jacobian.images import Images
from lqf.jacobian.layout import Layout
from lqf.jacobian.linearized import Linearized
from lqf.jacobian.operators import (
    DenseJacobian,
    FeatureJacobian,
    Jacobian,
    NetworkJacobian,
    RowSpace,
)
from lqf.jacobian.tape import Kept

__all__ = [
    "AugmentedFeatureJacobian",
    "AugmentedNetworkJacobian",
    "DenseJacobian",
    "FeatureJacobian",
    "Images",
    "Jacobian",
    "Kept",
    "Layout",
    "Linearized",
    "NetworkJacobian",
    "RowSpace",
]
