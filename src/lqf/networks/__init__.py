"""Networks: backbones by name, activation swap, frozen batch norm, pooling, heads."""

from lqf.networks.batch_norm import (
    BatchNorm,
    fold_batch_norm,
    freeze_batch_norm,
    has_batch_norm,
    recalibrate_batch_norm,
)
from lqf.networks.classifier import (
    Classifier,
    build,
    build_features,
    kept_activations,
    new_head,
    swap_activation,
)
from lqf.networks.cut import Cut, cut, last_layer
from lqf.networks.pooling import AveragePooling, CovariancePooling

__all__ = [
    "AveragePooling",
    "BatchNorm",
    "Classifier",
    "CovariancePooling",
    "Cut",
    "build",
    "build_features",
    "cut",
    "fold_batch_norm",
    "freeze_batch_norm",
    "has_batch_norm",
    "kept_activations",
    "last_layer",
    "new_head",
    "recalibrate_batch_norm",
    "swap_activation",
]
