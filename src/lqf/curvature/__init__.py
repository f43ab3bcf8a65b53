"""Gradients of single samples, the curvature they give, and the metric it makes."""

from lqf.curvature.estimate import Curvature, LayerCurvature, estimate
from lqf.curvature.metric import Metric
from lqf.curvature.samples import Batch, Gradients, SampleGradients, jacobian

__all__ = [
    "Batch",
    "Curvature",
    "Gradients",
    "LayerCurvature",
    "Metric",
    "SampleGradients",
    "estimate",
    "jacobian",
]
