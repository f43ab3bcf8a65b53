"""Solvers of the linearised problem: one a file, one protocol (`protocol.Solution`)."""

from lqf.solve.closed_form import solve_dual, solve_head
from lqf.solve.dual_block import BlockSolution, solve_dual_block
from lqf.solve.dual_pcg import DualPrecondition, KernelPreconditioner, solve_dual_pcg
from lqf.solve.pcg import solve_pcg
from lqf.solve.primal_path import PrimalPath
from lqf.solve.protocol import Diverged, Precondition, Progress, Resume, Snapshot, Solution
from lqf.solve.ridge_path import RidgeChoice, RidgePath
from lqf.solve.sgd import solve_sgd, stable_rate

__all__ = [
    "BlockSolution",
    "Diverged",
    "DualPrecondition",
    "KernelPreconditioner",
    "Precondition",
    "PrimalPath",
    "Progress",
    "Resume",
    "RidgeChoice",
    "RidgePath",
    "Snapshot",
    "Solution",
    "solve_dual",
    "solve_dual_block",
    "solve_dual_pcg",
    "solve_head",
    "solve_pcg",
    "solve_sgd",
    "stable_rate",
]
