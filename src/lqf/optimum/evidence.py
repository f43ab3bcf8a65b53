"""From dual coefficients to δ and its certificate, through the network."""

from __future__ import annotations

import time

from torch import Tensor

from lqf.curvature import Metric
from lqf.optimum.problem import Certificate, Problem


def certified(
    problem: Problem,
    metric: Metric,
    coefficients: Tensor,
    mu: float,
    passes: float,
    begin: float,
    solver: str,
    fit: Certificate | None,
) -> tuple[Tensor, Certificate]:
    """``δ = M⁻¹Jᵀa`` and the evidence that it is the optimum.

    Args:
        problem: the problem.
        metric: M.
        coefficients: a, N × C.
        mu: μ.
        passes: what was done to find a.
        begin: when that began (``time.perf_counter``).
        solver: its name.
        fit: the certificate of the fit from scratch that a was updated from; None if it is one.

    Returns:
        δ, P, in the precision of the network, and the certificate; making them takes one pass.
    """
    target = problem.target
    jacobian = problem.jacobian
    delta = metric.solve(jacobian.pull(coefficients.to(target)))
    change = jacobian.forward(delta).double()
    gap = target.double() - change - mu * _noise(problem) * coefficients.double()
    size, distance = float(target.double().norm()), float(gap.norm())
    residual = distance / size if size > 0 else 0.0
    seconds, passes = time.perf_counter() - begin, passes + 1
    certificate = Certificate(
        residual,
        distance,
        problem.tolerance,
        residual <= problem.tolerance,
        passes,
        passes if fit is None else fit.passes_of_fit,
        seconds,
        seconds if fit is None else fit.seconds_of_fit,
        solver,
    )
    return delta, certificate


def _noise(problem: Problem) -> Tensor | float:
    return 1.0 if problem.noise is None else problem.noise.double()[:, None]
