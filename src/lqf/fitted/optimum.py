"""What both kinds of fit share: the problem that was posed, and the certificate of its solution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from tqdm import tqdm

from lqf.influence import LeaveOneOut
from lqf.linear import Linearized
from lqf.solve import RidgeChoice


@dataclass(frozen=True)
class Certificate:
    """The evidence that a solution is the optimum.

    Args:
        residual: ``‖(G + wd I)δ − JᵀR/N‖ / ‖JᵀR/N‖`` with wd = μ/N, computed anew from δ.  δ is no
            further from the optimum than ``residual · ‖JᵀR‖/μ``.
        tolerance: what was asked for.
        met: whether the residual is within it.
        passes: passes over the training samples; Jδ and Jᵀr cost half a pass each.
        passes_of_fit: passes of the fit from scratch that this solution started from; the same as
            ``passes`` unless samples were forgotten or added since.
        seconds: wall time.
        seconds_of_fit: wall time of the fit from scratch.
        solver: ``dual`` (direct, exact to rounding) or ``dual pcg``.
        passes_of_ridge: those of ``passes`` in which μ was chosen or the preconditioner made.
    """

    residual: float
    tolerance: float
    met: bool
    passes: float
    passes_of_fit: float
    seconds: float
    seconds_of_fit: float
    solver: str
    passes_of_ridge: float = 0.0

    def __str__(self) -> str:
        """Return the same in one sentence."""
        verdict = "within" if self.met else "NOT within"
        said = (
            f"relative residual {self.residual:.1e}, {verdict} the tolerance {self.tolerance:.1e}, "
            f"after {self.passes:.3g} passes over the data in {self.seconds:.3g} s ({self.solver})"
        )
        if self.passes_of_ridge:
            said += f", {self.passes_of_ridge:.3g} of them for mu and the preconditioner"
        if (self.passes, self.seconds) != (self.passes_of_fit, self.seconds_of_fit):
            said += (
                f"; the fit from scratch took {self.passes_of_fit:.3g} passes and "
                f"{self.seconds_of_fit:.3g} s"
            )
        return said


@dataclass(frozen=True)
class Problem:
    """``Σ‖R_i − J_i δ‖² + μ‖δ‖²``, without its μ.

    Args:
        linearized: f0 and J of the network at w0.
        images: N × 3 × H × W.
        labels: y, N.
        target_scale: α.
        classes: C.
        tolerance: relative residual to reach.
        max_passes: budget of an iterative solve.
        seed: of everything random.
    """

    linearized: Linearized
    images: Tensor
    labels: Tensor
    target_scale: float
    classes: int
    tolerance: float
    max_passes: int
    seed: int

    def residual_target(self, base: Tensor, labels: Tensor | None = None) -> Tensor:
        """``R = αY − f0``.

        Args:
            base: f0, N × C.
            labels: y, N; None means the training labels.

        Returns:
            N × C, in the precision of ``base``.
        """
        labels = self.labels if labels is None else labels
        return self.target_scale * one_hot(labels, self.classes).to(base) - base


class Optimum(Protocol):
    """The solution of a problem, and the questions it can answer."""

    problem: Problem
    mu: float
    delta: Tensor
    certificate: Certificate
    choice: RidgeChoice | None

    def leave_one_out(self) -> LeaveOneOut:
        """Outputs and error of every training sample under the model without it."""
        ...

    def influence(self, images: Tensor) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``, M × N × C."""
        ...

    def informativeness(self, images: Tensor) -> Tensor:
        """F-SI (LQF eq. 9) of every training sample, N."""
        ...

    def predictive_covariance(self, images: Tensor) -> Tensor:
        """``J(x) A⁻¹ J(x)ᵀ``, M × C × C."""
        ...

    def forget(self, index: Tensor) -> Optimum:
        """The optimum without the samples in ``index``, at the same μ."""
        ...

    def extend(self, images: Tensor, labels: Tensor) -> Optimum:
        """The optimum with further samples, at the same μ."""
        ...


def in_batches(
    linearized: Linearized, images: Tensor, delta: Tensor | None = None, batch: int = 64
) -> Tensor:
    """``f0(x) + J(x) δ`` (f0 alone without δ), in batches.

    Args:
        linearized: f0 and J.
        images: M × 3 × H × W.
        delta: δ, P.
        batch: images in one pass.

    Returns:
        M × C.
    """
    parts = []
    for part in images.split(batch):
        outputs = linearized.outputs(part)
        parts.append(outputs if delta is None else outputs + linearized.jvp(part, delta))
    return torch.cat(parts)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No automatic mixed precision and no inference mode inside, whatever the caller has set.

    Args:
        device: where the computation runs.

    Yields:
        Nothing.
    """
    with torch.autocast(device.type, enabled=False), torch.inference_mode(False):
        yield


class Moves:
    """A progress callback that moves a bar."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def __call__(self, done: int, total: int, note: str) -> None:
        """Move the bar to ``done`` of ``total``."""
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
