"""Linear Quadratic Fine-Tuning: fine-tuning you can reason about.

The names below are the public surface.  They are loaded when first used, so that reading a
configuration or drawing a figure does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lqf.curvature import Curvature, Metric, SampleGradients, estimate
    from lqf.estimator import LQF
    from lqf.jacobian import DenseJacobian, FeatureJacobian, Linearized, NetworkJacobian
    from lqf.method import METHODS, Method
    from lqf.ridge import DenseRidge, RidgePath, solve_dual, solve_sgd

__version__ = "0.2.0"

_HOME = {
    "Curvature": "lqf.curvature",
    "DenseJacobian": "lqf.jacobian",
    "DenseRidge": "lqf.ridge",
    "FeatureJacobian": "lqf.jacobian",
    "LQF": "lqf.estimator",
    "Linearized": "lqf.jacobian",
    "METHODS": "lqf.method",
    "Method": "lqf.method",
    "Metric": "lqf.curvature",
    "NetworkJacobian": "lqf.jacobian",
    "RidgePath": "lqf.ridge",
    "SampleGradients": "lqf.curvature",
    "estimate": "lqf.curvature",
    "solve_dual": "lqf.ridge",
    "solve_sgd": "lqf.ridge",
}

__all__ = [
    "LQF",
    "METHODS",
    "Curvature",
    "DenseJacobian",
    "DenseRidge",
    "FeatureJacobian",
    "Linearized",
    "Method",
    "Metric",
    "NetworkJacobian",
    "RidgePath",
    "SampleGradients",
    "estimate",
    "solve_dual",
    "solve_sgd",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lqf' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
