"""Networks: backbones by name, activation swap, frozen batch norm, pooling, heads."""

from lqf.networks.batch_norm import fold_batch_norm, freeze_batch_norm, has_batch_norm
from lqf.networks.classifier import (
    Classifier,
    backbone_names,
    build,
    build_features,
    new_head,
    swap_activation,
)
from lqf.networks.pooling import AveragePooling, CovariancePooling

__all__ = [
    "AveragePooling",
    "Classifier",
    "CovariancePooling",
    "backbone_names",
    "build",
    "build_features",
    "fold_batch_norm",
    "freeze_batch_norm",
    "has_batch_norm",
    "new_head",
    "swap_activation",
]
