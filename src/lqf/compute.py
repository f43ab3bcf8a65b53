"""In what precision and how much at once a job computes: the configuration's section ``compute``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lqf.memory import AtOnce, images_at_once
from lqf.method import Method


@dataclass(frozen=True)
class Compute:
    """How a job computes.

    Attributes:
        nonlinear: precision of non-linear training: ``fp32``, ``tf32``, ``bf16`` (automatic mixed
            precision, weights in float32), or ``auto``: bf16 on CUDA devices, fp32 elsewhere.
        linear: precision of Jδ and Jᵀr: ``fp32``, or ``tf32`` where the device has it.
        curvature: precision of the Kronecker factors: ``fp32`` or ``fp64``.
        channels_last: memory layout of images and weights.
        batch_memory: gigabytes for what a pass holds of its images, where the result does not depend
            on how many run at once.
    """

    nonlinear: str = "auto"
    linear: str = "fp32"
    curvature: str = "fp32"
    channels_last: bool = True
    batch_memory: float = 8.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Compute:
        """The section of a job's settings; what it does not say is as above."""
        section = dict(settings.get("compute", {}))
        return cls(**section.pop("precision", {}), **section)

    @property
    def memory_format(self) -> torch.memory_format:
        """For images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def mixed(self, device: torch.device) -> torch.autocast:
        """Mixed precision for non-linear training, or none."""
        wanted = self.nonlinear == "bf16" or (self.nonlinear == "auto" and device.type == "cuda")
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted)

    def allow_tf32(self, method: Method) -> None:
        """Let products of float32 numbers be rounded to tf32 in this process, or not.

        PyTorch lets convolutions by default; J and Jᵀ then disagree by a thousandth, which is the
        tolerance of the solvers.
        """
        precision = self.nonlinear if method.trained == "all" else self.linear
        allowed = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed

    def at_once(self, network: nn.Module, image: Tensor, what: str) -> AtOnce:
        """How many images like this one, 1 × 3 × H × W, run at once through a network, by memory; ``what`` is for the log."""
        return AtOnce(images_at_once(network, image, self.batch_memory), what)
