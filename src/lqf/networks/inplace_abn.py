"""The leaky-ReLU ResNet-50 of mapillary/inplace_abn, in the names and the formula of torchvision.

Rota Bulò, Porzi, Kontschieder 2018, "In-place activated BatchNorm for memory-optimized training of
DNNs".  Its networks are torchvision's ResNets (the stride is in the 3 × 3 convolution) with leaky
ReLU of slope 0.01 in the place of every ReLU, also after the sum of a block; what differs are the
names and the normalisation ``(|γ| + ε)(x − μ)/√(σ² + ε) + β``, so γ becomes ``|γ| + ε``.
"""

from __future__ import annotations

import re

from lqf.networks.weights import State, WrongWeights

EPSILON = 1e-5

_NAMES = (
    (re.compile(r"mod1\.(conv1|bn1)\.(\w+)"), r"\1.\2"),
    (re.compile(r"mod(\d)\.block(\d+)\.convs\.(\w+)\.(\w+)"), r"layer{0}.{1}.\3.\4"),
    (re.compile(r"mod(\d)\.block(\d+)\.proj_conv\.(\w+)"), r"layer{0}.{1}.downsample.0.\3"),
    (re.compile(r"mod(\d)\.block(\d+)\.proj_bn\.(\w+)"), r"layer{0}.{1}.downsample.1.\3"),
    (re.compile(r"classifier\.fc\.(\w+)"), r"fc.\1"),
)
_GAIN = re.compile(r"(.*\.)?(bn\d|downsample\.1)\.weight")


def converted(state: State) -> State:
    """Rename the weights, and turn γ into what plain batch normalisation multiplies by.

    Raises:
        WrongWeights: if a name is none of that network's.
    """
    renamed = {_renamed(name): value for name, value in state.items()}
    return {
        name: value.abs() + EPSILON if _GAIN.fullmatch(name) else value
        for name, value in renamed.items()
    }


def _renamed(name: str) -> str:
    for pattern, template in _NAMES:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        if "{" in template:
            template = template.format(int(found[1]) - 1, int(found[2]) - 1)
        return found.expand(template)
    raise WrongWeights(
        f"{name!r} is no name in a ResNet of mapillary/inplace_abn (mod1.bn1.weight, say): use its "
        "checkpoint resnet50_ipabn-sync_lr_512, or name the file itself under backbone.weights."
    )
