"""The exact optimum of LQF in the curvature metric, and what can be asked of it.

One engine for the estimator and for the workflow: a kernel formed and decomposed where the problem is
small, conjugate gradients on the same kernel where it is large.
"""

from lqf.optimum.base import Optimum as Optimum
from lqf.optimum.choice import Choice as Choice
from lqf.optimum.large import LargeOptimum as LargeOptimum
from lqf.optimum.optimum import fit as fit
from lqf.optimum.optimum import is_small as is_small
from lqf.optimum.problem import Certificate as Certificate
from lqf.optimum.problem import LeftOut as LeftOut
from lqf.optimum.problem import Problem as Problem
from lqf.optimum.small import SmallOptimum as SmallOptimum
