"""Gradients of single samples, the curvature they give, and the metric it makes."""

from lqf.curvature.estimate import Curvature as Curvature
from lqf.curvature.estimate import LayerCurvature as LayerCurvature
from lqf.curvature.estimate import estimate as estimate
from lqf.curvature.metric import Metric as Metric
from lqf.curvature.samples import Batch as Batch
from lqf.curvature.samples import Gradients as Gradients
from lqf.curvature.samples import SampleGradients as SampleGradients
from lqf.curvature.samples import jacobian as jacobian
