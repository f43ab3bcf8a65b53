"""A small task and network for the tests of the experiments."""

from __future__ import annotations

import torch
from torch import Tensor

from lqf.experiments.task import Split, Task
from lqf.networks import Classifier, build

CLASSES = 3


def split(count: int, seed: int) -> Split:
    """Images whose mean colour tells the class, with noise, in float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    colour = 2 * torch.eye(CLASSES, dtype=torch.float64)[labels][:, :, None, None]
    noise = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return Split(colour + noise, labels, torch.arange(count))


def task(count: int = 12) -> Task:
    return Task("colours", ("red", "green", "blue"), split(count, 0), split(9, 1), split(15, 2))


def network(pooling: str = "average", images: Tensor | None = None) -> Classifier:
    """The demo network, in float64, with statistics and a head of its own."""
    torch.manual_seed(0)
    made = build(
        "demo_resnet", CLASSES, activation="leaky_relu", pooling=pooling, covariance_dimension=4
    ).double()
    made.train()
    made(split(32, 3).images if images is None else images)
    return made.eval()
