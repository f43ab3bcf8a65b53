"""A fitted model as one safetensors file: the weights w0, δ, and what the model was fitted with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lqf import __version__
from lqf.files import replaced
from lqf.networks.weights import checksum, write_state

FORMAT = "lqf-3"


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write tensors by name, and everything else that JSON can hold; the file appears whole or not at all.

    Raises:
        ValueError: if there is no such folder.
    """
    metadata = {"format": FORMAT, "version": __version__}
    metadata |= {key: json.dumps(value, sort_keys=True) for key, value in about.items()}
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder} to write {Path(path).name} into; make it first."
        )
    with replaced(Path(path)) as temporary:
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        write_state(temporary, plain, metadata)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write` has written: tensors by name, and everything else.

    Raises:
        ValueError: if the file is no saved model, damaged, or one of another format.
        FileNotFoundError: if there is none.
    """
    name = os.fspath(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = metadata.pop("format", None)
            if found != FORMAT:
                made = f"format {found}" if found else "no saved LQF"
                raise ValueError(
                    f"{name} is {made}, and lqf {__version__} reads format {FORMAT}; fit the model "
                    "again and write it with LQF.save."
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            said = metadata.pop("sha256", "")
            if checksum(tensors, {**metadata, "format": FORMAT}) != said:
                raise ValueError(
                    f"{name} is damaged: its content is not what was written; take a copy of it, or fit "
                    "the model again."
                )
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{name} is no safetensors file, or damaged ({error}); write it with LQF.save."
        ) from error
    metadata.pop("version", None)
    return tensors, {key: json.loads(value) for key, value in metadata.items()}


def other_network(path: str | os.PathLike[str], reason: str) -> str:
    """What is said where a network is not the one that was saved."""
    return (
        f"the network given is not the one saved in {os.fspath(path)}: {reason}; give a module "
        "of the architecture that was fitted."
    )


def restore_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Put the weights that a file holds as ``network/…`` into a network of the saved architecture.

    Raises:
        ValueError: if the network is another one.
    """
    saved = {
        key.removeprefix("network/"): value
        for key, value in tensors.items()
        if key.startswith("network/")
    }
    own = network.state_dict() | dict(network.named_buffers())
    odd = [
        f"only the {'file' if key in saved else 'network'} has {key!r}"
        for key in sorted(own.keys() ^ saved.keys())
    ] or [
        f"{key!r} has shape {tuple(value.shape)} in the file and {tuple(own[key].shape)} here"
        for key, value in saved.items()
        if value.shape != own[key].shape
    ]
    if odd:
        more = f", and {len(odd) - 1} more differ" if len(odd) > 1 else ""
        raise ValueError(other_network(path, odd[0] + more))
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(saved[key])
