"""Solving the ridge: exactly from a kernel, by conjugate gradients, or as the paper does, by SGD."""

from lqf.ridge.cg import DualSolution, solve_dual
from lqf.ridge.dense import DenseRidge
from lqf.ridge.kernel import Candidates, KernelMaker
from lqf.ridge.path import RidgePath
from lqf.ridge.protocol import Diverged, Resume, Snapshot, Solution
from lqf.ridge.sgd import solve_sgd, stable_rate

__all__ = [
    "Candidates",
    "DenseRidge",
    "Diverged",
    "DualSolution",
    "KernelMaker",
    "Resume",
    "RidgePath",
    "Snapshot",
    "Solution",
    "solve_dual",
    "solve_sgd",
    "stable_rate",
]
