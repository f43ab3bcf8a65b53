"""The Jacobian J (NC × P) of N samples at w0, as the linear solvers see it.

Three representations of one operator: materialised (small problems), implicit in the features
(heads), and implicit in the network (everything else).  Solvers call ``forward`` and ``pull``
and do not know which they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from lqf.jacobian.images import Images
from lqf.jacobian.linearized import Linearized
from lqf.jacobian.tape import Kept
from lqf.memory import AtOnce, graph_bytes

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# cotangent(J_i δ of some samples, their positions among the b of the product) -> c.
Cotangent = Callable[[Tensor, slice], Tensor]


class Jacobian(Protocol):
    """Rows ``J_i`` (C × P) of N samples, with the outputs ``f0`` (N × C) they start from."""

    @property
    def samples(self) -> int:
        """N."""

    @property
    def outputs(self) -> int:
        """C."""

    @property
    def size(self) -> int:
        """P."""

    @property
    def base(self) -> Tensor:
        """f0, N × C."""

    def forward(self, delta: Tensor, index: Tensor | None = None) -> Tensor:
        """``J_i δ`` of the samples in ``index`` (all if None), b × C."""

    def pull(self, cotangent: Tensor, index: Tensor | None = None) -> Tensor:
        """``Σ_i J_iᵀ c_i`` over the samples in ``index`` (all if None), P."""

    def pass_(
        self, delta: Tensor, cotangent: Cotangent, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``J_i δ`` (b × C) and ``Σ_i J_iᵀ c_i`` (P), where c is a function of ``J δ``: one pass.

        The samples may come in parts: ``cotangent(change, rows)`` is given ``J_i δ`` of one part
        and its place among the b samples, and returns c in the shape of ``change``.
        """


class _Products:
    """A pass as two products, where nothing is gained by computing them together."""

    def pass_(
        self: Jacobian, delta: Tensor, cotangent: Cotangent, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``J_i δ`` (b × C) and ``Σ_i J_iᵀ c_i`` (P); see `Jacobian.pass_`."""
        change = self.forward(delta, index)
        return change, self.pull(cotangent(change, slice(0, len(change))), index)


class DenseJacobian(_Products):
    """A materialised Jacobian.

    Args:
        matrix: J, N × C × P.
        base: f0, N × C.
    """

    def __init__(self, matrix: Tensor, base: Tensor) -> None:
        self.matrix = matrix
        self.base = base

    samples = property(lambda self: self.matrix.shape[0])
    outputs = property(lambda self: self.matrix.shape[1])
    size = property(lambda self: self.matrix.shape[2])

    def _rows(self) -> Tensor:
        return self.matrix.reshape(-1, self.matrix.shape[2])

    def forward(self, delta: Tensor, index: Tensor | None = None) -> Tensor:
        """``J_i δ``, b × C."""
        if index is None:
            return (self._rows() @ delta).reshape(self.base.shape)
        if self.matrix.is_cuda:
            return self.matrix[index] @ delta
        # One product a sample reads J once; gathering the rows first would copy them.
        return torch.stack([self.matrix[i] @ delta for i in index.tolist()])

    def pull(self, cotangent: Tensor, index: Tensor | None = None) -> Tensor:
        """``Σ_i J_iᵀ c_i``, P."""
        if index is None:
            return cotangent.reshape(-1) @ self._rows()
        if self.matrix.is_cuda:
            return cotangent.reshape(-1) @ self.matrix[index].flatten(0, 1)
        total = self.matrix.new_zeros(self.size)
        for i, c in zip(index.tolist(), cotangent, strict=True):
            total.addmv_(self.matrix[i].T, c)
        return total

    def gram(self) -> Tensor:
        """``K = J Jᵀ``, NC × NC, rows in sample-major order."""
        return self._rows() @ self._rows().T


class RowSpace:
    """The same linear problem in an orthonormal basis of the row space of J.

    Without a preconditioner every iterate of a gradient method started at δ = 0 lies in the row
    space of J, so P coordinates can be exchanged for at most NC without changing any output:
    with ``K = J Jᵀ = L Lᵀ`` the rows of L are those of J in an orthonormal basis.

    Args:
        jacobian: the materialised Jacobian, N × C × P.

    Attributes:
        jacobian: the rotated Jacobian, N × C × rank.
    """

    def __init__(self, jacobian: DenseJacobian) -> None:
        gram = jacobian.gram().double()
        rounding = 32 * torch.finfo(jacobian.matrix.dtype).eps
        factor, failed = torch.linalg.cholesky_ex(gram)
        pivots = factor.diagonal().square()
        if not failed and pivots.min() > rounding * gram.diagonal().max():
            identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            rows, basis = factor, torch.linalg.solve_triangular(factor.T, identity, upper=True)
        else:
            # Rows that depend on each other: K = U S² Uᵀ, kept where S² is above rounding.
            eigenvalues, U = torch.linalg.eigh(gram)
            kept = eigenvalues > eigenvalues[-1] * rounding
            scale = eigenvalues[kept].sqrt()
            rows, basis = U[:, kept] * scale, U[:, kept] / scale
        self._basis = basis.to(jacobian.matrix.dtype)
        self._original = jacobian
        shape = (jacobian.samples, jacobian.outputs, rows.shape[1])
        matrix = rows.to(jacobian.matrix.dtype).reshape(shape)
        self.jacobian = DenseJacobian(matrix, jacobian.base)

    def share(self, delta: Tensor) -> float:
        """How much of ‖δ‖² lies in the row space of J; the rest changes no output of its samples."""
        inside = self._basis.T @ self._original.forward(delta).flatten()
        return float(inside.double().square().sum() / delta.double().square().sum())

    def lift(self, coordinates: Tensor) -> Tensor:
        """The parameter vector δ (P) of a point given in the rotated coordinates."""
        cotangent = self._basis @ coordinates
        return self._original.pull(cotangent.reshape(self._original.base.shape))


class FeatureJacobian(_Products):
    """The Jacobian of a linear head: ``J_i = I_C ⊗ [φ_iᵀ, 1]``, never formed.

    δ holds the weight (C × F), then the bias (C), as in ``torch.nn.Linear``.

    Args:
        features: φ, N × F.
        base: f0, N × C.
    """

    def __init__(self, features: Tensor, base: Tensor) -> None:
        self.features = features
        self.base = base

    samples = property(lambda self: self.features.shape[0])
    outputs = property(lambda self: self.base.shape[1])
    size = property(lambda self: self.base.shape[1] * (self.features.shape[1] + 1))

    def _features(self, index: Tensor | None) -> Tensor:
        return self.features if index is None else self.features[index]

    def forward(self, delta: Tensor, index: Tensor | None = None) -> Tensor:
        """``J_i δ``, b × C."""
        C, F = self.outputs, self.features.shape[1]
        weight, bias = delta[: C * F].reshape(C, F), delta[C * F :]
        return self._features(index) @ weight.T + bias

    def pull(self, cotangent: Tensor, index: Tensor | None = None) -> Tensor:
        """``Σ_i J_iᵀ c_i``, P."""
        weight = cotangent.T @ self._features(index)
        return torch.cat([weight.reshape(-1), cotangent.sum(0)])


class NetworkJacobian:
    """The Jacobian of a network, by passes through it.

    Args:
        linearized: the linearised network.
        images: N × 3 × H × W, as the network takes them.
        batch: samples in one pass; where memory runs out it is halved.
        base: f0, N × C, where it is known; None computes it.
    """

    def __init__(
        self,
        linearized: Linearized,
        images: Images,
        batch: int | AtOnce = 64,
        base: Tensor | None = None,
    ) -> None:
        self.linearized = linearized
        self.images = images
        self._batch = AtOnce(batch, "a pass of the network") if isinstance(batch, int) else batch
        if base is None:
            base = self._batch.run(
                lambda size: torch.cat([linearized.outputs(part) for part in images.split(size)]),
                len(images),
            )
        self.base = base
        self._seen = images
        self._kept: dict[int, Kept] | None = None

    samples = property(lambda self: self.images.shape[0])
    outputs = property(lambda self: self.base.shape[1])
    size = property(lambda self: self.linearized.layout.size)

    @contextmanager
    def keeping(self, memory: int) -> Iterator[None]:
        """Keep the run of the network at w0 from pass to pass, if it takes no more than so many bytes.

        Inside the block, but for its first time, a pass over all samples takes 4 units of work in
        the place of 5, and a ``forward`` or a ``pull`` 2 in the place of 3.
        """
        needed = 2 * graph_bytes(self.linearized.network, self.images[:1]) * self.samples
        self._kept = {} if needed <= memory else None
        try:
            yield
        finally:
            self._kept = None

    def _keeper(self, rows: slice, index: Tensor | None) -> Kept | None:
        """What is kept of a batch of all samples."""
        if self._kept is None or index is not None:
            return None
        kept = self._kept.setdefault(rows.start, Kept())
        if kept.refusal is not None:
            log.info("the network runs at w0 in every pass: %s", kept.refusal)
            self._kept = None
        return kept

    def _run(self, work: Callable[[int], _Result], index: Tensor | None) -> _Result:
        """The work, in batches that are halved where memory runs out; nothing is kept then."""
        count = len(self.images) if index is None else len(index)
        before = min(self._batch.size, count)

        def lean(batch: int) -> _Result:
            if batch < before:
                self._kept = None
            return work(batch)

        return self._batch.run(lean, count)

    def forward(self, delta: Tensor, index: Tensor | None = None) -> Tensor:
        """``J_i δ``, b × C."""

        def products(batch: int) -> Tensor:
            parts = _parts(self.images, index, batch)
            return torch.cat(
                [self.linearized.jvp(x, delta, self._keeper(rows, index)) for rows, x in parts]
            )

        return self._run(products, index)

    def pull(self, cotangent: Tensor, index: Tensor | None = None) -> Tensor:
        """``Σ_i J_iᵀ c_i``, P."""

        def product(batch: int) -> Tensor:
            total = cotangent.new_zeros(self.size)
            for rows, x in _parts(self.images, index, batch):
                self.linearized.vjp(x, cotangent[rows], total, self._keeper(rows, index))
            return total

        return self._run(product, index)

    def pass_(
        self, delta: Tensor, cotangent: Cotangent, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``J_i δ`` and ``Σ_i J_iᵀ c_i``, where c is a function of ``J δ``, in one run a batch; see `Jacobian.pass_`.

        The primal is computed once: 5 units of work (primal 1, tangent 2, backward 2) where
        ``forward`` and ``pull`` one after the other take 6.
        """
        images, stored = self._seen, self.base if index is None else self.base[index]

        def whole(batch: int) -> tuple[Tensor, Tensor]:
            total = torch.zeros(self.size, dtype=delta.dtype, device=delta.device)
            changes: list[Tensor] = []
            for rows, x in _parts(images, index, batch):

                def residual(f0: Tensor, change: Tensor, rows: slice = rows) -> Tensor:
                    # Of another view of its samples a solver is told how it differs from f0.
                    own = images is self.images
                    changes.append(change if own else f0 + change - stored[rows])
                    return cotangent(changes[-1], rows)

                kept = self._keeper(rows, index) if images is self.images else None
                self.linearized.product(x, delta, residual, total, kept)
            return torch.cat(changes), total

        return self._run(whole, index)


def _parts(images: Images, index: Tensor | None, batch: int) -> Iterator[tuple[slice, Tensor]]:
    """The images in ``index`` (all if None), a batch at a time, and each batch's place among them."""
    for start in range(0, len(images) if index is None else len(index), batch):
        rows = slice(start, start + batch)
        yield rows, images[rows if index is None else index[rows]]
