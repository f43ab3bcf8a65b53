"""The estimator's options, checked in one place, and the device they stand for."""

from __future__ import annotations

import math
from typing import Any

import torch


def check_options(options: dict[str, Any]) -> None:
    """Refuse options outside their range.

    Args:
        options: the estimator's parameters, by name.

    Raises:
        ValueError: if one cannot be used; names it, its value, and what is allowed.
    """
    classes, ridge = options["classes"], options["ridge"]
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise ValueError(f"classes is {classes!r}; it must be an integer of at least 2.")
    for name in ("target_scale", "slope"):
        if not (_is_number(options[name]) and 0 < options[name] < math.inf):
            raise ValueError(f"{name} is {options[name]!r}; it must be a finite positive number.")
    named = isinstance(ridge, str) and ridge in ("loo", "gcv")
    if not named and not (_is_number(ridge) and 0 < ridge < math.inf):
        raise ValueError(f"ridge is {ridge!r}; it must be 'loo', 'gcv' or a finite mu > 0.")
    tolerance, passes = options["tolerance"], options["max_passes"]
    if not (_is_number(tolerance) and 0 < tolerance < 1):
        raise ValueError(f"tolerance is {tolerance!r}; it must be between 0 and 1.")
    if not (_is_number(passes) and passes >= 3):
        raise ValueError(f"max_passes is {passes!r}; it must be at least 3.")
    if not (_is_number(options["seed"]) and isinstance(options["seed"], int)):
        raise ValueError(f"seed is {options['seed']!r}; it must be an integer.")
    if options["fold_batch_norm"] not in (True, False, None):
        raise ValueError(
            f"fold_batch_norm is {options['fold_batch_norm']!r}; it must be True, False or None."
        )


def choose_device(device: str | torch.device) -> torch.device:
    """The device an option stands for.

    Args:
        device: ``auto`` for CUDA's current device where there is one and else the CPU, or a device.
            A process that leases a device (`lqf.devices`) sees only that one; an estimator takes
            no lease of its own, since it would hold it for as long as the process lives.

    Returns:
        The device.

    Raises:
        ValueError: if there is no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device is {str(device)!r}, which cannot be used here ({reason}); give 'auto', 'cpu' "
            "or a CUDA device of this machine."
        ) from error
    return chosen


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
