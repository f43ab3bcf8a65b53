"""The exact optimum of LQF in the curvature metric, and what can be asked of it.

One engine for the estimator and for the workflow: a kernel formed and decomposed where the problem is
small, conjugate gradients on the same kernel where it is large.
"""

from lqf.optimum.base import Optimum
from lqf.optimum.choice import Choice
from lqf.optimum.large import LargeOptimum
from lqf.optimum.optimum import fit, is_small
from lqf.optimum.problem import Certificate, LeftOut, Problem
from lqf.optimum.small import SmallOptimum

__all__ = [
    "Certificate",
    "Choice",
    "LargeOptimum",
    "LeftOut",
    "Optimum",
    "Problem",
    "SmallOptimum",
    "fit",
    "is_small",
]
