"""Networks: backbones by name, activation swap, frozen batch norm, pooling, heads."""

from lqf.networks.batch_norm import BatchNorm as BatchNorm
from lqf.networks.batch_norm import fold_batch_norm as fold_batch_norm
from lqf.networks.batch_norm import freeze_batch_norm as freeze_batch_norm
from lqf.networks.batch_norm import has_batch_norm as has_batch_norm
from lqf.networks.batch_norm import recalibrate_batch_norm as recalibrate_batch_norm
from lqf.networks.classifier import Classifier as Classifier
from lqf.networks.classifier import build as build
from lqf.networks.classifier import build_features as build_features
from lqf.networks.classifier import kept_activations as kept_activations
from lqf.networks.classifier import new_head as new_head
from lqf.networks.classifier import swap_activation as swap_activation
from lqf.networks.cut import Cut as Cut
from lqf.networks.cut import cut as cut
from lqf.networks.cut import last_layer as last_layer
from lqf.networks.pooling import AveragePooling as AveragePooling
from lqf.networks.pooling import CovariancePooling as CovariancePooling
