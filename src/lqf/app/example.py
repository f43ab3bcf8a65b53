"""`lqf example`: what LQF does, on the handwritten digits that scikit-learn ships."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lqf import LQF
from lqf.app.network import Source
from lqf.data.build import read_digits

_SIZE = 16
# The network is pre-trained on the digits 0–4 and fine-tuned to 5–9 with this many of each.
_FIRST, _PER_CLASS, _PLANTED = 5, 20, 5
_STEPS, _BATCH = 200, 64
_SHOWN = 10


@dataclass(frozen=True)
class Task:
    """The digits 5 to 9, a few to train on, some with a wrong label.

    Attributes:
        pixels: Training images, N × S × S × 3.
        images: The same as the network takes them.
        labels: Their labels, N; 0 is the digit 5.
        planted: Places of the wrong ones.
        test: Test images and labels.
    """

    pixels: NDArray[np.uint8]
    images: Tensor
    labels: Tensor
    planted: NDArray[np.int64]
    test: tuple[Tensor, Tensor]


def example_command(options: argparse.Namespace) -> dict[str, Any]:
    """Pre-train, fine-tune, find planted label errors, forget, and draw."""
    network, task = make_example()
    model = LQF(network, _FIRST, device="cpu").fit(task.images, task.labels)
    loo = model.leave_one_out()
    chances = (loo.outputs / model.temperature_).softmax(1)
    given = chances[torch.arange(len(task.labels)), task.labels]
    order = given.argsort().numpy()
    worth = model.informativeness(task.test[0][:100])
    decile = order[: len(order) // 10]
    path = options.output / "example.png"
    draw(task, order, given.numpy(), worth.argsort(descending=True).numpy(), path)
    return {
        "task": f"digits 5 to 9, {_PER_CLASS} of each, {_PLANTED} labels planted wrong; the network has "
        "seen 0 to 4",
        "test_accuracy_percent": round(100 * model.score(*task.test), 1),
        "test_accuracy_without_the_wrong_labels_percent": round(
            100 * model.forget(task.planted).score(*task.test), 1
        ),
        "leave_one_out_error_percent": loo.error,
        "certificate": str(model.certificate_),
        "wrong_labels_among_the_ten_least_probable": int(np.isin(task.planted, decile).sum()),
        "picture": path,
        "next": "lqf audit FOLDER, with your photographs in FOLDER/CLASS/*.jpg",
    }


def make_example() -> tuple[nn.Module, Task]:
    """The pre-trained network and the task, the same at every call."""
    pixels, digits = read_digits(_SIZE)
    images = Source("", (0.3, 0.3, 0.3), (0.4, 0.4, 0.4)).images(pixels)
    rng = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _pretrained(
            images[digits < _FIRST], torch.as_tensor(digits[digits < _FIRST]), rng
        )
    place = rng.permutation(np.nonzero(digits >= _FIRST)[0])
    rank = pd.Series(place).groupby(digits[place]).cumcount().to_numpy()
    train, test = place[rank < _PER_CLASS], place[rank >= _PER_CLASS]
    labels = torch.as_tensor(digits[train] - _FIRST)
    planted = np.sort(rng.choice(len(train), _PLANTED, replace=False))
    labels[planted] = (labels[planted] + torch.as_tensor(rng.integers(1, 5, _PLANTED))) % _FIRST
    held = (images[test], torch.as_tensor(digits[test] - _FIRST))
    return network, Task(pixels[train], images[train], labels, planted, held)


def _pretrained(images: Tensor, labels: Tensor, rng: np.random.Generator) -> nn.Module:
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, _FIRST)),
    )
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(_STEPS):
        batch = torch.as_tensor(rng.choice(len(labels), _BATCH, replace=False))
        optimiser.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
    return network.eval()


def draw(
    task: Task,
    order: NDArray[np.int64],
    given: NDArray[np.floating],
    worth: NDArray[np.int64],
    path: Path,
) -> None:
    """Draw what was found.

    Args:
        task: The images.
        order: Training images, the least probable label first.
        given: Probability of each label by the model without its image.
        worth: Training images, the most informative first.
        path: The PNG.
    """
    strips = (
        ("Labels that look wrong (red: planted)", order[:_SHOWN]),
        ("Most informative", worth[:_SHOWN]),
        ("Least informative", worth[::-1][:_SHOWN]),
    )
    figure = Figure(figsize=(10, 5))
    axes = figure.subplots(3, _SHOWN)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.84, hspace=0.9)
    for line, (title, places) in zip(axes, strips, strict=True):
        line[0].text(0, 1.75, title, transform=line[0].transAxes, weight="bold")
        for axis, place in zip(line, places, strict=True):
            axis.imshow(task.pixels[place], interpolation="nearest")
            wrong = place in task.planted
            text = f"“{task.labels[place] + _FIRST}”\np = {given[place]:.2f}"
            axis.set_title(text, fontsize=8, color="#b00020" if wrong else "black")
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
