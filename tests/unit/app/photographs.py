"""Folders of small pictures, and a network for them that needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lqf.app.network import architecture

NETWORK, SIZE = "squeezenet1_1", 32
COLOURS = {"<b>red & co": (200, 40, 40), "green": (40, 170, 60), 'blue "sea"': (40, 60, 200)}


def write_photo(path: Path, seed: int, colour: tuple[int, int, int]) -> Path:
    """A smooth picture of mostly one colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 60, (6, 6, 3)) + colour
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    small.resize((48, 40), Image.Resampling.BICUBIC).save(path)
    return path


def write_folder(root: Path, number: int = 6, start: int = 0) -> Path:
    """``root/CLASS/N.png`` of three classes."""
    for label, (name, colour) in enumerate(COLOURS.items()):
        for i in range(number):
            write_photo(root / name / f"{i}.png", 100 * label + start + i, colour)
    return root


def write_weights(path: Path) -> Path:
    """Random weights of `NETWORK`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(architecture(NETWORK)[0].state_dict(), path)
    return path
