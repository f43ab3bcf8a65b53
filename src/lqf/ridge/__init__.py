"""Solving the ridge: exactly from a kernel, by conjugate gradients, or as the paper does, by SGD."""

from lqf.ridge.cg import DualSolution as DualSolution
from lqf.ridge.cg import solve_dual as solve_dual
from lqf.ridge.dense import DenseRidge as DenseRidge
from lqf.ridge.kernel import Candidates as Candidates
from lqf.ridge.kernel import KernelMaker as KernelMaker
from lqf.ridge.path import RidgePath as RidgePath
from lqf.ridge.protocol import Diverged as Diverged
from lqf.ridge.protocol import Resume as Resume
from lqf.ridge.protocol import Snapshot as Snapshot
from lqf.ridge.protocol import Solution as Solution
from lqf.ridge.sgd import solve_sgd as solve_sgd
from lqf.ridge.sgd import stable_rate as stable_rate
