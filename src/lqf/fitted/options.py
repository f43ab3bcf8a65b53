"""The estimator's options, checked in one place, and the device they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in allowed)


# What is allowed, by option: a test and its words.
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "classes": (lambda v: v is None or (_whole(v) and v >= 1), "an integer above 0, or None"),
    "head": (_one_of("random", "keep"), "'random' or 'keep'"),
    "activation": (_one_of("relu", "leaky_relu", None), "'relu', 'leaky_relu' or None"),
    "slope": (lambda v: _number(v) and v > 0, "a finite positive number"),
    "pooling": (_one_of("average", "covariance"), "'average' or 'covariance'"),
    "trained": (
        lambda v: v in ("all", "head") or (_whole(v) and v >= 1),
        "'all', 'head', or how many of the last stages",
    ),
    "target_scale": (lambda v: _number(v) and v > 0, "a finite positive number"),
    "metric": (_one_of("curvature", "euclidean", None), "'curvature', 'euclidean' or None"),
    "ridge": (lambda v: v == "loo" or (_number(v) and v > 0), "'loo' or a finite mu > 0"),
    "centred": (_one_of(True, False, None), "True, False or None"),
    "class_weight": (_one_of("balanced", None), "'balanced' or None"),
    "tolerance": (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1"),
    "max_passes": (lambda v: _number(v) and v >= 3, "a number of at least 3"),
    "fold_batch_norm": (_one_of(True, False, None), "True, False or None"),
    "seed": (_whole, "an integer"),
}


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse options of the estimator outside their range; the same with numpy's numbers as Python's.

    Raises:
        ValueError: if one cannot be used; names it, its value, and what is allowed.
    """
    for name, (allowed, words) in _ALLOWED.items():
        if not allowed(options[name]):
            raise ValueError(f"{name} is {options[name]!r}; it must be {words}.")
    plain = {}
    for name, value in options.items():
        if _whole(value):
            value = int(value)
        elif _number(value):
            value = float(value)
        plain[name] = value
    return plain


def choose_device(device: str | torch.device) -> torch.device:
    """The device an option stands for: ``auto`` is CUDA's current device where there is one, else the CPU.

    A process that leases a device (`lqf.devices`) sees only that one; an estimator takes no lease of its
    own, since it would hold it for as long as the process lives.

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
