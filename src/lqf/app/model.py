"""A model that knows its photographs: an LQF with names of classes, files and their hashes."""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lqf import LQF
from lqf.app.network import Source, architecture, pretrained
from lqf.app.photos import Photos

_KIND = "lqf photographs 2"
# Training images whose spread is the unit of `novelty`.
_REFERENCE = 32


@dataclass(frozen=True)
class PhotoModel:
    """A fitted model and what it was fitted to.

    Attributes:
        lqf: The estimator.
        source: The network, and how it wants its pixels.
        photos: The training images, N.
        spread: Median predictive variance of the training images; see `novelty`.
        history: What was forgotten or added since the fit, in words.
    """

    lqf: LQF
    source: Source
    photos: Photos
    spread: float
    history: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, C."""
        return self.photos.classes

    @property
    def size(self) -> int:
        """Height and width of the images, S."""
        return int(self.photos.pixels.shape[1])

    def images(self, photos: Photos) -> Tensor:
        """Returns photographs as the network takes them, M × 3 × S × S."""
        return self.source.images(photos.pixels)

    def novelty(self, images: Tensor) -> NDArray[np.float64]:
        """How little the training set says about images, in units of a typical training image.

        Returns:
            The mean variance of the outputs (``J A⁻¹ Jᵀ``) over the median of training images, M.
        """
        return variance(self.lqf, images) / self.spread

    def without(self, places: Sequence[int]) -> PhotoModel:
        """The model at the optimum without some training files."""
        gone = set(places)
        photos = self.photos.at([i for i in range(len(self.photos)) if i not in gone])
        history = (*self.history, f"forgot {len(gone)} images")
        return replace(self, lqf=self.lqf.forget(list(places)), photos=photos, history=history)

    def relabelled(self, labels: NDArray[np.int64]) -> PhotoModel:
        """The model at the optimum for other labels of the same photographs, N."""
        photos = replace(self.photos, labels=labels)
        history = (*self.history, f"relabelled {int((labels != self.photos.labels).sum())} images")
        lqf = self.lqf.relabel(torch.as_tensor(labels))
        return replace(self, lqf=lqf, photos=photos, history=history)

    def with_more(self, photos: Photos) -> PhotoModel:
        """The model at the optimum with further photographs, whose labels are its classes'."""
        lqf = self.lqf.extend(self.images(photos), torch.as_tensor(photos.labels))
        history = (*self.history, f"added {len(photos)} images")
        return replace(self, lqf=lqf, photos=self.photos.and_(photos), history=history)

    def save(self, path: Path) -> None:
        """Write one file, which appears whole or not at all."""
        about = {
            "kind": _KIND,
            "network": self.source.name,
            "weights": self.source.weights,
            "mean": self.source.mean,
            "std": self.source.std,
            "size": self.size,
            "classes": self.classes,
            "files": self.photos.files,
            "labels": self.photos.labels.tolist(),
            "hashes": self.photos.hashes,
            "spread": self.spread,
            "history": self.history,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lqf-", dir=path.parent) as folder:
            inner, outer = Path(folder, "model.safetensors"), Path(folder, "model.zip")
            self.lqf.save(inner)
            with zipfile.ZipFile(outer, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr("photographs.json", json.dumps(about, ensure_ascii=False))
                archive.write(inner, "model.safetensors")
                with archive.open("pixels.npy", "w", force_zip64=True) as file:
                    np.save(file, self.photos.pixels, allow_pickle=False)
            outer.replace(path)

    @classmethod
    def load(cls, path: Path) -> PhotoModel:
        """Read a file that `save` wrote.

        Raises:
            ValueError: If it is no such file.
        """
        if not path.is_file():
            raise ValueError(f"there is no model {path}: make one with lqf fit FOLDER -o {path}.")
        try:
            with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
                # numpy stops where it takes the array to end, before the sum behind it is compared.
                if (member := archive.testzip()) is not None:
                    raise ValueError(
                        f"{path} is damaged: {member} is not what lqf fit wrote; fit it again."
                    )
                about: dict[str, Any] = json.loads(archive.read("photographs.json"))
                if about.get("kind") != _KIND:
                    raise ValueError(f"{path} was written by another version of lqf: fit it again.")
                inner = archive.extract("model.safetensors", folder)
                lqf = LQF.load(inner, architecture(about["network"])[0])
                with archive.open("pixels.npy") as file:
                    pixels = np.load(file, allow_pickle=False)
        except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError, OSError) as error:
            raise ValueError(
                f"{path} is no model of lqf fit, or damaged ({error}): take a copy of it, or fit it again."
            ) from None
        files, hashes, classes = (tuple(about[key]) for key in ("files", "hashes", "classes"))
        labels, splits = np.array(about["labels"], dtype=np.int64), ("train",) * len(files)
        photos = Photos(files, pixels, labels, splits, hashes, classes)
        source = Source(
            about["network"], tuple(about["mean"]), tuple(about["std"]), about["weights"]
        )
        return cls(lqf, source, photos, about["spread"], tuple(about["history"]))


def fit_photos(
    photos: Photos, network: str, weights: Path | None, *, train: str = "all", **options: Any
) -> PhotoModel:
    """Fit a model to photographs.

    Args:
        photos: The training images, of two classes at least.
        network: Name in torchvision, or ``timm/NAME``.
        weights: A file of weights; None for the published ones.
        train: ``all`` parameters, or those of the ``head`` alone, which is faster.
        options: Of `LQF`.
    """
    module, source = pretrained(network, weights)
    images, labels = source.images(photos.pixels), torch.as_tensor(photos.labels)
    lqf = LQF(module, len(photos.classes), trained=train, **options).fit(images, labels)
    step = max(1, len(photos) // _REFERENCE)
    return PhotoModel(lqf, source, photos, float(np.median(variance(lqf, images[::step]))))


def variance(lqf: LQF, images: Tensor) -> NDArray[np.float64]:
    """Mean over the outputs of the predictive variance of each image, M."""
    covariance = lqf.predictive_covariance(images)
    return covariance.diagonal(dim1=1, dim2=2).mean(1).cpu().numpy()
