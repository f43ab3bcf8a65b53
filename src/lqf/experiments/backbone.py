"""Weights that exist, as the backbone of this workflow: published ones, or those of a user's file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lqf import backbones
from lqf.data.archives import read_manifest
from lqf.experiments.task import Settings
from lqf.files import replaced
from lqf.networks import build_features, kept_activations
from lqf.networks.inplace_abn import converted
from lqf.networks.weights import State, features_state, read_state, write_state

log = logging.getLogger(__name__)


def backbone(
    activation: str, archives: Path | None, output: Path, settings: Settings
) -> dict[str, Any]:
    """Write the weights of the features, without their classifier's head.

    Args:
        activation: ``relu`` or ``leaky_relu``.
        archives: folder that ``lqf download`` made, for published weights.
        output: state dict of the features, safetensors.
        settings: uses ``backbone``.

    Returns:
        Where the weights come from, as it is noted in the file.

    Raises:
        ValueError: if the weights are not there, or are not those of the network.
    """
    section = settings["backbone"]
    name = backbones.published(section, activation)
    if name is None:
        path = Path(backbones.source(section, activation))
    elif archives is None:
        raise ValueError(f"the weights {name!r} are published: name --archives, where they are.")
    else:
        path = read_manifest(archives)[0][0]
    kept = features_of(section, activation, path)
    about = {"network": section["network"], "weights": name or path.name}
    log.info("%s: %d tensors of %s from %s", activation, len(kept), section["network"], path)
    with replaced(output) as temporary:
        write_state(temporary, kept, about)
    return about


def features_of(section: Mapping[str, Any], activation: str, path: Path) -> State:
    """Read a file of weights for the features of a network.

    Args:
        section: ``backbone`` of the settings.
        activation: ``relu`` or ``leaky_relu``.
        path: the file.

    Raises:
        WrongWeights: if it is none, or the weights are not those of the network.
    """
    state = read_state(path)
    if backbones.source(section, activation) == backbones.INPLACE_ABN:
        state = converted(state)
    found = build_features(section["network"], "relu", section["slope"])
    others = kept_activations(found.features)
    if activation == "leaky_relu" and others:
        log.warning(
            "leaky ReLU takes the place of ReLU alone: %s keeps %s", section["network"], others
        )
    return features_state(state, found.features, found.head, str(path))
