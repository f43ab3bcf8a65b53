"""Linearised networks: ``f0(x) + J(x) δ`` and products with J."""

from lqf.jacobian.augmented import AugmentedFeatureJacobian as AugmentedFeatureJacobian
from lqf.jacobian.augmented import AugmentedNetworkJacobian as AugmentedNetworkJacobian
from lqf.jacobian.images import Images as Images
from lqf.jacobian.layout import Layout as Layout
from lqf.jacobian.linearized import Linearized as Linearized
from lqf.jacobian.operators import DenseJacobian as DenseJacobian
from lqf.jacobian.operators import FeatureJacobian as FeatureJacobian
from lqf.jacobian.operators import Jacobian as Jacobian
from lqf.jacobian.operators import NetworkJacobian as NetworkJacobian
from lqf.jacobian.operators import RowSpace as RowSpace
from lqf.jacobian.tape import Kept as Kept
