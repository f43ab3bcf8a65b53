"""Pre-training of the demo backbone on rendered letters (the source task), for an activation and a seed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lqf.experiments.nonlinear import Schedule, outputs_of, train_network
from lqf.experiments.task import Settings, load_task
from lqf.files import replaced
from lqf.losses import CrossEntropy, error_rate
from lqf.networks import build
from lqf.networks.weights import write_state
from lqf.run import device, progress

log = logging.getLogger(__name__)


def pretrain(
    activation: str, seed: int, data: Path, output: Path, settings: Settings
) -> dict[str, Any]:
    """Train the backbone from scratch and save its features.

    Args:
        activation: ``relu`` or ``leaky_relu``.
        seed: of the initial weights and the order of the images.
        data: folder of the prepared source data set.
        output: state dict of the features, safetensors.
        settings: uses ``backbone``.

    Returns:
        Validation and test error in %.

    Raises:
        ValueError: if there is no source task.
    """
    backbone = settings["backbone"]
    recipe = backbone["pretrain"]
    if recipe is None:
        raise ValueError(
            "config key 'backbone.pretrain' is null, so there is no source task to train on: use the "
            "sub-command 'backbone' for weights that exist."
        )
    task = load_task(data, recipe["dataset"], None, settings)
    torch.manual_seed(seed)
    network = build(
        backbone["network"],
        task.classes,
        activation=activation,
        slope=backbone["slope"],
        seed=seed,
    ).to(device())
    network = network.to(memory_format=torch.channels_last)
    schedule = Schedule(
        recipe["rate"],
        recipe["weight_decay"],
        recipe["batch"],
        recipe["epochs"],
        recipe["momentum"],
        milestones=(0.5, 0.75),
    )
    with progress(recipe["epochs"], f"pre-train {activation} seed {seed}") as bar:

        def on_epoch(epoch: int, loss: float, outputs: Callable[[], Tensor]) -> bool:
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")
            return False

        train = task.train
        train_network(network, train.images, train.labels, CrossEntropy(), schedule, seed, on_epoch)
    errors = {
        "val_err": error_rate(outputs_of(network, task.val.images), task.val.labels),
        "test_err": error_rate(outputs_of(network, task.test.images), task.test.labels),
    }
    log.info("source task %s: test error %.2f %%", recipe["dataset"], errors["test_err"])
    with replaced(output) as temporary:
        state = {name: t.contiguous() for name, t in network.features.state_dict().items()}
        write_state(temporary, state, {k: f"{v:.4f}" for k, v in errors.items()})
    return errors
