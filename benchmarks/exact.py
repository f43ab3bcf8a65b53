"""The exact optimum of a linearised problem whose Jacobian does not fit, by few passes."""

from __future__ import annotations

from torch import Tensor

from lqf.curvature import Coordinates
from lqf.experiments.grid import Point
from lqf.experiments.problem import LinearProblem
from lqf.solve import KernelPreconditioner, Solution, solve_dual_pcg

COORDINATES = 2048


class DualProblem(LinearProblem):
    """Solves by conjugate gradients in the dual, with the kernel of the largest coordinates.

    Kronecker factors alone leave a relative residual near 0.1 after 15 passes over a few hundred
    images; that is early stopping, and not the optimum.
    """

    _kernel_rows: tuple[Tensor, float] | None = None

    def rows(self) -> tuple[Tensor, float]:
        """The rows of J in the coordinates, and what the others hold, a row; computed once."""
        if self._kernel_rows is None:
            factors, eigenvalues = self.factors(1.0)
            few = Coordinates(factors, COORDINATES, rest="dropped", eigenvalues=eigenvalues)
            rows = few.rows(self.network, self.train.images)
            self._kernel_rows = rows, few.missing / rows.shape[1]
        return self._kernel_rows

    def _optimum(self, point: Point, *options: object) -> Solution:
        rows, missing = self.rows()
        decay = point.weight_decay
        kernel = KernelPreconditioner(rows, len(self.train) * decay, missing)
        return solve_dual_pcg(
            self.jacobian,
            self.residual_target(),
            decay,
            preconditioner=kernel,
            tolerance=point.tolerance,
            max_passes=point.max_passes,
        )
