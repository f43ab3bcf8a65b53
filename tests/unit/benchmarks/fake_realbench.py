"""A folder like the one with real images and weights: three small data sets and random weights."""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models


def make(folder: Path, datasets: dict[str, int], per_class: int = 8) -> Path:
    """Images whose colour tells the class, with noise, and SqueezeNet with random weights."""
    rng = np.random.default_rng(0)
    (folder / "datasets").mkdir(parents=True)
    (folder / "weights").mkdir()
    for name, classes in datasets.items():
        with tarfile.open(folder / "datasets" / f"{name}.tar", "w") as archive:
            for split in ("train", "test"):
                for label in range(classes):
                    for number in range(per_class):
                        colour = np.array([60 * label, 200 - 60 * label, 90])
                        pixels = rng.normal(colour, 30, (40, 36, 3)).clip(0, 255)
                        stream = io.BytesIO()
                        Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
                        path = f"{name}/{split}/class{label}/{number:04d}.png"
                        member = tarfile.TarInfo(path)
                        member.size = stream.tell()
                        stream.seek(0)
                        archive.addfile(member, stream)
    torch.manual_seed(0)
    weights = models.squeezenet1_1().state_dict()
    save_file(weights, folder / "weights" / "imagenet_squeezenet1_1.safetensors")
    return folder
