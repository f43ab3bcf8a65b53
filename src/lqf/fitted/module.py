"""A fitted model as a plain module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lqf.jacobian import Linearized


class FittedModule(nn.Module):
    """``f0(x) + J(x) δ`` as a module from images to outputs; nothing in it is trained.

    Args:
        linearized: f0 and J.
        delta: δ, P.
        offset: what is added to every output, C.
        leaves_f0: whether f0 is left out.
    """

    delta: Tensor
    offset: Tensor

    def __init__(
        self, linearized: Linearized, delta: Tensor, offset: Tensor, leaves_f0: bool
    ) -> None:
        super().__init__()
        self.network = linearized.network
        self._linearized, self._leaves_f0 = [linearized], leaves_f0
        self.register_buffer("delta", delta.clone())
        self.register_buffer("offset", offset.clone())

    def forward(self, images: Tensor) -> Tensor:
        """Outputs, M × C, without a graph."""
        linearized = self._linearized[0]
        with torch.inference_mode(False):
            outputs = linearized.jvp(images, self.delta.to(images)) + self.offset
            return outputs if self._leaves_f0 else outputs + linearized.outputs(images)
