"""Memory that one job may plan with; what does not fit is computed another way, or refused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

#: Part of a device's memory that one array of a job may take.
PART = 0.25

_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def budget(place: torch.device) -> int:
    """Bytes that one large array may take: a quarter of the memory of the device.

    It is the same for every job on a machine, however much is free, so that a job that is run
    again computes in the same order.  ``LQF_MEMORY`` (GB) says how much memory there is instead.

    Args:
        place: the device.

    Raises:
        ValueError: if ``LQF_MEMORY`` is not a positive number.
    """
    text = os.environ.get("LQF_MEMORY", "")
    if text:
        try:
            total = float(text) * 1e9
        except ValueError:
            total = 0.0
        if not 0 < total < float("inf"):
            raise ValueError(f"LQF_MEMORY is {text!r}; it must be a number of GB above 0.")
        return int(PART * total)
    if place.type == "cuda":
        return int(PART * torch.cuda.get_device_properties(place).total_memory)
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _CGROUPS:
        # The limit of a container or of a scheduler's job; "max" where there is none.
        with contextlib.suppress(OSError, ValueError):
            total = min(total, float(file.read_text()))
    return int(PART * total)


def gigabytes(count: float) -> str:
    """A number of bytes as it is told to users."""
    return f"{count / 1e9:.3g} GB"
