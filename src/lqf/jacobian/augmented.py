"""Jacobians whose samples are seen in a new view (crop, flip) each epoch.

A solver knows the outputs f0 of the samples as they are stored. Of a view x' it is told the change
``f0(x') + J(x') δ − f0(x)``, so that f0 plus the change are the linearised outputs of the view, and the
gradient it gets is that of the view. Products of other kinds (evaluation, curvature) see the samples as
they are stored. Only the gradient methods may use this: exact solutions belong to a fixed data set.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lqf.jacobian.images import Images
from lqf.jacobian.linearized import Linearized
from lqf.jacobian.operators import Cotangent, FeatureJacobian, NetworkJacobian
from lqf.memory import AtOnce

# views(epoch) -> the samples, in the same order, as that epoch sees them.
Views = Callable[[int], Images]


class AugmentedNetworkJacobian(NetworkJacobian):
    """The Jacobian of a network at views of its images.

    Args:
        linearized: the linearised network.
        images: the images as they are stored, N × 3 × H × W.
        views: gives the images of an epoch.
        batch: samples in one pass, bounded by memory.
    """

    def __init__(
        self, linearized: Linearized, images: Images, views: Views, batch: int | AtOnce = 64
    ) -> None:
        super().__init__(linearized, images, batch)
        self._views = views

    def draw(self, epoch: int) -> None:
        """Take the view of an epoch from now on."""
        self._seen = self._views(epoch)


class AugmentedFeatureJacobian(FeatureJacobian):
    """The Jacobian of a linear head at features of views.

    Args:
        stored: the Jacobian at the samples as they are stored.
        embed: maps images (b × 3 × H × W) to features (b × F), without a graph.
        head: maps features to outputs at w0.
        views: gives the images of an epoch.
        batch: images embedded at once.
    """

    def __init__(
        self,
        stored: FeatureJacobian,
        embed: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], Tensor],
        views: Views,
        batch: AtOnce,
    ) -> None:
        super().__init__(stored.features, stored.base)
        self._embed, self._head, self._views, self._batch = embed, head, views, batch
        self._seen = stored

    def draw(self, epoch: int) -> None:
        """Take the view of an epoch from now on; its images run through the network once."""
        images = self._views(epoch)
        with torch.no_grad():
            features = self._batch.run(
                lambda size: torch.cat([self._embed(part) for part in images.split(size)]),
                len(images),
            )
            self._seen = FeatureJacobian(features, self._head(features))

    def pass_(
        self, delta: Tensor, cotangent: Cotangent, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Change of the outputs and ``Σ_i J_iᵀ c_i``, both of the view."""
        shift = self._seen.base - self.base
        change = self._seen.forward(delta, index) + (shift if index is None else shift[index])
        return change, self._seen.pull(cotangent(change, slice(0, len(change))), index)
