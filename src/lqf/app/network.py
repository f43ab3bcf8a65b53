"""The pre-trained network by name: of torchvision or timm, with published weights or a file's."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lqf.backbones import IMAGENET
from lqf.files import digest_of
from lqf.networks import last_layer
from lqf.networks.weights import features_state, first_line, read_state


@dataclass(frozen=True)
class Source:
    """Which network, and how it wants its pixels.

    Attributes:
        name: Name in torchvision, or ``timm/NAME``.
        mean: Of the pixels it was pre-trained on, by channel, in [0, 1].
        std: Their standard deviation.
        weights: SHA-256 of the file of weights; empty for the published ones.
    """

    name: str
    mean: tuple[float, float, float] = IMAGENET.mean
    std: tuple[float, float, float] = IMAGENET.deviation
    weights: str = ""

    def images(self, pixels: Any) -> Tensor:
        """Pixels as the network takes them.

        Args:
            pixels: M × S × S × 3, uint8.

        Returns:
            M × 3 × S × S, float32, normalised.
        """
        values = torch.as_tensor(pixels).float() / 255.0
        normal = (values - torch.tensor(self.mean)) / torch.tensor(self.std)
        return normal.permute(0, 3, 1, 2).contiguous()


def architecture(name: str) -> tuple[nn.Module, Source]:
    """A network without its weights.

    Raises:
        ValueError: If there is none of that name.
    """
    # What the constructors draw is overwritten; the caller's generator is left as it was.
    with torch.random.fork_rng(devices=[]):
        if not name.startswith("timm/"):
            return _torchvision(name)
        timm = _timm()
        short = name.removeprefix("timm/")
        if not timm.is_model(short):
            raise ValueError(_unknown(name, [f"timm/{one}" for one in timm.list_models()]))
        network = timm.create_model(short, pretrained=False)
    mean, std = (tuple(network.pretrained_cfg[key]) for key in ("mean", "std"))
    return network, Source(name, mean, std)


def pretrained(name: str, weights: Path | None) -> tuple[nn.Module, Source]:
    """A network with its weights.

    Args:
        name: Name in torchvision, or ``timm/NAME``.
        weights: A file of weights (safetensors or a state dict); None for the published ones, which
            are downloaded unless they are on this machine.

    Returns:
        The network, and how it wants its pixels.

    Raises:
        ValueError: If there is no such network, or the weights cannot be had.
    """
    network, source = architecture(name)
    if weights is not None:
        head, _ = last_layer(network)
        own = {key: value for key, value in network.state_dict().items() if key.startswith(head)}
        state = {**own, **read_state(weights)}
        # The head is replaced, so a file may lack it or have one of another size.
        for key, value in own.items():
            if state[key].shape != value.shape:
                state[key] = value
        network.load_state_dict(features_state(state, network, [head], str(weights)))
        return network, replace(source, weights=digest_of(weights))
    if name.startswith("timm/"):
        return _published_timm(name), source
    network.load_state_dict(_published(name))
    return network, source


def _torchvision(name: str) -> tuple[nn.Module, Source]:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise ValueError(_unknown(name, names))
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    return models.get_model(name, weights=None, **options), Source(name)


def _published(name: str) -> Any:
    from torchvision import models

    members = models.get_model_weights(name).__members__
    weights = members.get("IMAGENET1K_V1") or next(iter(members.values()))
    file = weights.url.rpartition("/")[2]
    place = Path(torch.hub.get_dir()) / "checkpoints"
    digest = file.rpartition("-")[2].partition(".")[0]
    remedy = f"put the file {file}, whose SHA-256 begins with {digest}, into {place}"
    with _to_be_had(name, remedy):
        return weights.get_state_dict(progress=True, check_hash=True)


def _published_timm(name: str) -> nn.Module:
    short = name.removeprefix("timm/")
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    remedy = f"put model.safetensors of the hub's timm/{short} into its folder in {home}"
    with _to_be_had(name, remedy):
        return _timm().create_model(short, pretrained=True)


@contextlib.contextmanager
def _to_be_had(name: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights of {name} are not on this machine and could not be had "
            f"({first_line(error)[:120]}): {remedy}, or name a file with --weights."
        ) from None


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ValueError(
            "networks of timm need the package timm: run pip install timm, or choose a network of "
            "torchvision."
        ) from None
    return timm


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return (
        f"there is no network {name!r}: {hint}Allowed are torchvision's classifiers, as resnet18 or "
        "mobilenet_v2, and timm/NAME."
    )
