"""Small real data sets and real ImageNet weights that lie beside the checkout, where they are at hand.

The folder is ``../shared/realbench`` or what ``LQF_REALBENCH`` names: ``datasets/NAME.tar`` with
``NAME/{train,test}/CLASS/*`` in it, ``weights/*.safetensors``, and ``backbones.py`` with the modules
that are not torchvision's. Nothing of it belongs to the project.
"""

from __future__ import annotations

import importlib.util
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lqf.data.decode import decode
from lqf.experiments.task import Split, Task
from lqf.networks import AveragePooling, Classifier, new_head, swap_activation

#: Mean squared norm of the pooled features of the training images.
SQUARE = 1.0

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Absent(RuntimeError):
    """What a benchmark needs is not at hand; it is skipped, and the message says why."""


def folder() -> Path:
    """The folder with data sets and weights.

    Raises:
        Absent: if it is not there.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "realbench"
    place = Path(os.environ.get("LQF_REALBENCH", beside))
    if not (place / "datasets").is_dir() or not (place / "weights").is_dir():
        raise Absent(
            "real images and weights are not at hand: ../shared/realbench or the folder that "
            "LQF_REALBENCH names needs datasets/ and weights/."
        )
    return place


@dataclass(frozen=True)
class Sizes:
    """Images of each class that are used.

    Args:
        train: training images, drawn anew by each seed.
        val: images that choose rates and ridge, drawn from the rest of the train split.
        test: test images, the first of each class; None for all.
    """

    train: int
    val: int
    test: int | None = None


def load(name: str, sizes: Sizes, resolution: int, seed: int) -> Task:
    """A task of normalised images.

    Args:
        name: name of the data set.
        sizes: images of each class.
        resolution: height and width; the shorter side is resized, the middle cut out.
        seed: draws training and validation images from the train split.

    Returns:
        The task; `Split.rows` are places in the train split or the test split.
    """
    classes, pixels, labels = _read(folder() / "datasets" / f"{name}.tar", resolution)
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    for label in range(len(classes)):
        own = (labels["train"] == label).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        drawn["train"].append(own[: sizes.train])
        drawn["val"].append(own[sizes.train : sizes.train + sizes.val])
        drawn["test"].append((labels["test"] == label).nonzero()[:, 0][: sizes.test])
    parts = {}
    for part, rows in drawn.items():
        split = "test" if part == "test" else "train"
        index = torch.cat(rows)
        index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))]
        images = (pixels[split][index] / 255.0 - torch.tensor(MEAN)) / torch.tensor(STD)
        images = images.permute(0, 3, 1, 2)  # channels last in memory, which is faster
        parts[part] = Split(images, labels[split][index], index)
    return Task(name, classes, parts["train"], parts["val"], parts["test"])


@cache
def _read(path: Path, size: int) -> tuple[tuple[str, ...], dict[str, Tensor], dict[str, Tensor]]:
    """Class names; pixels (N × H × W × 3, uint8) and labels of both splits, by file name."""
    if not path.is_file():
        raise Absent(f"the data set {path.stem} is not at hand.")
    found: dict[str, list[tuple[str, str, np.ndarray]]] = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                _, split, label, file = PurePosixPath(member.name).parts[-4:]
                data = archive.extractfile(member)
                if split in found and data is not None:
                    found[split].append((label, file, decode(data.read(), size).pixels))
    classes = tuple(sorted({label for label, _, _ in found["train"]}))
    pixels, labels = {}, {}
    for split, entries in found.items():
        entries.sort(key=lambda entry: entry[:2])
        pixels[split] = torch.from_numpy(np.stack([image for _, _, image in entries]))
        labels[split] = torch.tensor([classes.index(label) for label, _, _ in entries])
    return classes, pixels, labels


class ScaledPooling(AveragePooling):
    """Average pooling times a constant.

    Networks without batch norm have features of any size; with it, one range of learning rates
    and ridge constants serves them all.

    Args:
        channels: D.
    """

    scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, N × D."""
        return super().forward(x) * self.scale


def network(
    name: str, classes: int, activation: str, slope: float, seed: int, images: Tensor
) -> Classifier:
    """The pre-trained features with average pooling and a new head, in evaluation mode.

    The activation is swapped; weights and statistics of batch norm stay those of the ReLU network.

    Args:
        name: a key of `NETWORKS`.
        classes: C.
        activation: ``relu`` or ``leaky_relu``.
        slope: slope of the leaky ReLU.
        seed: draws the head.
        images: training images, whose features get the mean squared norm `SQUARE`.
    """
    features = NETWORKS[name]()
    swap_activation(features, activation, slope)
    with torch.no_grad():
        channels = features.eval()(images[:1]).shape[1]
    pool = ScaledPooling(channels)
    made = Classifier(features, pool, new_head(channels, classes, seed))
    made = made.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with torch.no_grad():
        squares = [made.embed(part).square().sum(1) for part in images.split(64)]
    pool.scale = float((SQUARE / torch.cat(squares).mean()).sqrt())
    return made


def _weights(name: str) -> dict[str, Tensor]:
    path = folder() / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise Absent(f"the weights {path.name} are not at hand.")
    return load_file(path)


def _loaded(module: nn.Module, weights: Mapping[str, Tensor], without: str) -> nn.Module:
    """The module with its weights; only those whose name starts with ``without`` may lack."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    wrong = [key for key in missing if not key.startswith(without)] + unexpected
    if wrong:
        raise ValueError(f"weights and network disagree about {wrong[0]!r}.")
    return module


def _resnet50v2() -> nn.Module:
    path = folder() / "backbones.py"
    spec = importlib.util.spec_from_file_location("realbench_backbones", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise Absent("backbones.py is not beside the weights.")
    backbones = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backbones)
    whole = backbones.resnet50v2_stage3(1)
    _loaded(whole, _weights("imagenet_resnet50v2_stages1-3"), "fc.")
    return nn.Sequential(*list(whole.children())[:-1])


def _squeezenet() -> nn.Module:
    from torchvision import models

    return _loaded(models.squeezenet1_1(), _weights("imagenet_squeezenet1_1"), "-").features


def _mobilenet() -> nn.Module:
    from torchvision import models

    name = "imagenet_mobilenetv2_tv_bnfolded_backbone"
    return _loaded(models.mobilenet_v2(), _weights(name), "classifier.").features


#: Pre-trained features, N × 3 × H × W to N × D × h × w, with ReLU as published.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50v2_stages1-3": _resnet50v2,
    "squeezenet1_1": _squeezenet,
    "mobilenet_v2": _mobilenet,
}
