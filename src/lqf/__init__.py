"""Linear Quadratic Fine-Tuning: fine-tuning you can reason about.

The names below are the public surface.  They are loaded when first used, so that reading a
configuration or drawing a figure does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lqf.curvature import Preconditioner, kronecker_factors
    from lqf.estimator import LQF
    from lqf.linear import DenseJacobian, FeatureJacobian, Linearized, NetworkJacobian
    from lqf.method import METHODS, Method
    from lqf.solve import RidgePath, solve_head, solve_pcg, solve_sgd

__version__ = "0.1.0"

_HOME = {
    "DenseJacobian": "lqf.linear",
    "FeatureJacobian": "lqf.linear",
    "LQF": "lqf.estimator",
    "Linearized": "lqf.linear",
    "METHODS": "lqf.method",
    "Method": "lqf.method",
    "NetworkJacobian": "lqf.linear",
    "Preconditioner": "lqf.curvature",
    "RidgePath": "lqf.solve",
    "kronecker_factors": "lqf.curvature",
    "solve_head": "lqf.solve",
    "solve_pcg": "lqf.solve",
    "solve_sgd": "lqf.solve",
}

__all__ = [
    "LQF",
    "METHODS",
    "DenseJacobian",
    "FeatureJacobian",
    "Linearized",
    "Method",
    "NetworkJacobian",
    "Preconditioner",
    "RidgePath",
    "kronecker_factors",
    "solve_head",
    "solve_pcg",
    "solve_sgd",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lqf' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
