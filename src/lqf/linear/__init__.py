"""Linearised networks: ``f0(x) + J(x) δ`` and products with J."""

from lqf.linear.augmented import AugmentedFeatureJacobian, AugmentedNetworkJacobian
from lqf.linear.images import Images
from lqf.linear.jacobian import (
    DenseJacobian,
    FeatureJacobian,
    Jacobian,
    NetworkJacobian,
    RowSpace,
    keeping,
)
from lqf.linear.layout import Layout
from lqf.linear.linearized import Linearized
from lqf.linear.sample_rows import RowPlan, SampleRows
from lqf.linear.tangent_kernel import block_samples, tangent_kernel

__all__ = [
    "AugmentedFeatureJacobian",
    "AugmentedNetworkJacobian",
    "DenseJacobian",
    "FeatureJacobian",
    "Images",
    "Jacobian",
    "Layout",
    "Linearized",
    "NetworkJacobian",
    "RowPlan",
    "RowSpace",
    "SampleRows",
    "block_samples",
    "keeping",
    "tangent_kernel",
]
