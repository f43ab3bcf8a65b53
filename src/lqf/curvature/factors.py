"""Kronecker factors as data: the blocks, what they were made from, and their file."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lqf.curvature.eigenbasis import Eigenbasis, decompose, decompose_root
from lqf.curvature.probes import ProbeCount
from lqf.linear.images import Images

Approximation = Literal["expand", "reduce"]

_FORMAT = "2"

# Images that are read at a time.
_READ = 64


@dataclass(frozen=True)
class Provenance:
    """What factors were made from; factors made from anything else are not the same factors.

    Attributes:
        weights: SHA-256 of w0: all parameters and buffers of the network.
        images: SHA-256 of the images.
        samples: N.
        names: the trained parameters.
        probes: "all" or the number of random probes a sample.
        seed: seed of the random probes.
        approximation: "expand" or "reduce".
    """

    weights: str
    images: str
    samples: int
    names: tuple[str, ...]
    probes: ProbeCount
    seed: int
    approximation: Approximation

    @classmethod
    def of(
        cls,
        network: nn.Module,
        images: Images,
        names: Iterable[str],
        *,
        probes: ProbeCount = "all",
        approximation: Approximation = "expand",
        seed: int = 0,
    ) -> "Provenance":
        """Describe factors without computing them, to ask a file for them.

        Args:
            network: the network at w0.
            images: N × ....
            names: the trained parameters.
            probes: as in `kronecker_factors`.
            approximation: as in `kronecker_factors`.
            seed: as in `kronecker_factors`.

        Returns:
            The description; the seed counts as 0 where no random number is drawn.
        """
        state = [*network.named_parameters(), *network.named_buffers()]
        return cls(
            weights=_digest(state),
            images=_digest_images(images),
            samples=len(images),
            names=tuple(names),
            probes=probes,
            seed=0 if probes == "all" else seed,
            approximation=approximation,
        )


@dataclass(frozen=True)
class KroneckerBlock:
    """G restricted to one layer ≈ A ⊗ B, a mean over samples of a sum over outputs.

    Rows and columns of a group's block are the layer's increments as a matrix o × (d [+ 1]) with
    the bias as its last column; A acts on its columns, B on its rows.

    Attributes:
        weight: full name of the layer's weight, None if it is not trained.
        bias: full name of the layer's bias, None if it is not trained.
        inputs: A itself or, if `root`, the rows R with A = RᵀR, groups × r × (d [+ 1]).
        B: second moment of the gradient by the layer's output, groups × o × o.
        root: whether `inputs` are rows, which a large A of few rows is kept as.
    """

    weight: str | None
    bias: str | None
    inputs: Tensor
    B: Tensor
    root: bool = False

    @property
    def A(self) -> Tensor:
        """Second moment of the layer's input, groups × (d [+ 1]) × (d [+ 1])."""
        return self.inputs.mT @ self.inputs if self.root else self.inputs


@dataclass
class KroneckerFactors:
    """A block-diagonal approximation of the Gauss–Newton matrix G = (1/N) Σ J_iᵀJ_i at w0.

    Attributes:
        blocks: Kronecker blocks by name of the layer.
        diagonal: diagonal of G for every other trained parameter, by name, in its shape.
        made: what they were made from.
    """

    blocks: dict[str, KroneckerBlock]
    diagonal: dict[str, Tensor]
    made: Provenance
    _bases: dict[str, Eigenbasis] = field(default_factory=dict, repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return self.made.samples

    def basis(self, layer: str) -> Eigenbasis:
        """Return the eigenbases of a layer's two factors, computed once and kept.

        Args:
            layer: name of the layer.

        Returns:
            Eigenvalues in float64, eigenvectors in the dtype of the factors; `eigenbasis` says in
            which precision they are computed, and when the basis of A is thin.

        Raises:
            ValueError: if a factor has NaN or infinite entries; names the layer.
        """
        if layer not in self._bases:
            block = self.blocks[layer]
            of_inputs = decompose_root if block.root else decompose
            a, A = of_inputs(block.inputs, f"A (inputs) of layer {layer!r}")
            b, B = decompose(block.B, f"B (output gradients) of layer {layer!r}")
            self._bases[layer] = Eigenbasis(a, A, b, B)
        return self._bases[layer]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the factors and what they were made from; the file appears whole or not at all.

        Args:
            path: a safetensors file.
        """
        tensors = {f"diagonal/{name}": tensor for name, tensor in self.diagonal.items()}
        names = {}
        for layer, block in self.blocks.items():
            tensors[f"{'root' if block.root else 'A'}/{layer}"] = block.inputs
            tensors[f"B/{layer}"] = block.B
            names[layer] = [block.weight, block.bias]
        for layer, basis in self._bases.items():
            for part in ("a", "A", "b", "B"):
                tensors[f"basis.{part}/{layer}"] = getattr(basis, part)
        metadata = {
            "format": _FORMAT,
            "made": json.dumps(asdict(self.made), sort_keys=True),
            "blocks": json.dumps(names, sort_keys=True),
        }
        temporary = Path(f"{os.fspath(path)}.{os.getpid()}.partial")
        try:
            contiguous = {
                key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()
            }
            save_file(contiguous, temporary, metadata)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        made: Provenance,
        device: str | torch.device = "cpu",
    ) -> "KroneckerFactors":
        """Read factors, and refuse those that were made from something else.

        Args:
            path: a file written by `save`.
            made: what the factors must have been made from: `Provenance.of(...)`.
            device: where to put them.

        Returns:
            The factors.

        Raises:
            ValueError: if the file is not one of factors, or they were made from other weights,
                images or settings; names the first difference.
        """
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(
                    f"{os.fspath(path)} holds no Kronecker factors of format {_FORMAT}; compute "
                    "them again with kronecker_factors(...).save(path)."
                )
            _refuse_difference(path, json.loads(metadata["made"]), made)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        blocks, bases = {}, {}
        for layer, (weight, bias) in json.loads(metadata["blocks"]).items():
            root = f"root/{layer}" in tensors
            inputs = tensors[f"{'root' if root else 'A'}/{layer}"]
            blocks[layer] = KroneckerBlock(weight, bias, inputs, tensors[f"B/{layer}"], root)
            if f"basis.a/{layer}" in tensors:
                parts = [tensors[f"basis.{part}/{layer}"] for part in ("a", "A", "b", "B")]
                bases[layer] = Eigenbasis(*parts)
        diagonal = {
            key.removeprefix("diagonal/"): tensor
            for key, tensor in tensors.items()
            if key.startswith("diagonal/")
        }
        return cls(blocks, diagonal, made, bases)


def _refuse_difference(
    path: str | os.PathLike[str], found: Mapping[str, Any], wanted: Provenance
) -> None:
    expected = json.loads(json.dumps(asdict(wanted)))
    for key, value in expected.items():
        if found.get(key) != value:
            raise ValueError(
                f"The factors in {os.fspath(path)} were made with {key} = {found.get(key)!r}, but "
                f"{key} = {value!r} is asked for; delete the file and compute them again."
            )


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _digest_images(images: Images) -> str:
    """The same, read a few at a time."""
    digest = hashlib.sha256()
    digest.update(f"images {images.dtype} {tuple(images.shape)}\n".encode())
    for part in images.split(_READ):
        digest.update(_bytes(part))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
