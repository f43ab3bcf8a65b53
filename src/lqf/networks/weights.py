"""Weights of a backbone from a file: read without running code in it, renamed, checked."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Tensor]

_LOG = logging.getLogger(__name__)
# What the files of torch.save begin with: a zip archive, or a pickle before PyTorch 1.6.
_SAVED = (b"PK", b"\x80")
_INSIDE = ("state_dict", "model", "model_state_dict")
_WRAPPED = "module."
_COUNTER = "num_batches_tracked"
# torchvision's older DenseNets had a point in these names.
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")


class WrongWeights(ValueError):
    """A file of weights cannot be read or does not belong to the network."""


def read_state(path: Path) -> State:
    """Read a state dict; nothing in the file is executed.

    Args:
        path: a safetensors file, or a file of ``torch.save`` with tensors in it: the state dict, or
            a dictionary that has it under ``state_dict`` or ``model``.

    Returns:
        Tensors by name, without the prefix ``module.`` that data-parallel training leaves.

    Raises:
        WrongWeights: if the file cannot be read, holds code, holds no state dict, or was written by
            `write_state` and is not as it was.
    """
    try:
        if path.suffix == ".safetensors":
            content: object = _read_safetensors(path)
        elif not _beginning(path).startswith(_SAVED):
            raise WrongWeights(f"{path} is no file of weights: torch.save did not write it.")
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WrongWeights(f"there is no file {path} with weights.") from None
    except pickle.UnpicklingError as error:
        _LOG.debug("%s", error)
        raise WrongWeights(
            f"{path} holds more than tensors, which is not loaded because it could run code: load "
            "it where you trust it and save network.state_dict() alone."
        ) from None
    except WrongWeights:
        raise
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise WrongWeights(
            f"{path} is no file of weights: {first_line(error)}; get it again, or save "
            "network.state_dict() alone."
        ) from None
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WrongWeights(
            f"{path} holds no state dict: save network.state_dict(), tensors by name."
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WrongWeights(
                f"{path} has a {type(value).__name__} under {name!r}, where a state dict has a "
                "tensor under a text: save network.state_dict()."
            )
    state = dict(content)
    while state and all(name.startswith(_WRAPPED) for name in state):
        state = {name.removeprefix(_WRAPPED): value for name, value in state.items()}
    return {_DENSE.sub(r"\1\2", name): value for name, value in state.items()}


def write_state(path: Path, state: State, about: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum of its content.

    Args:
        path: the file.
        state: tensors by name.
        about: what else is noted in it.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        save_file(state, path, {**about, "sha256": checksum(state, about)})
    except SafetensorError as error:
        failed = OSError(f"{path} cannot be written: {first_line(error)}")
        if number := re.search(r"os error (\d+)", str(error)):
            failed.errno = int(number[1])
        raise failed from None


def _read_safetensors(path: Path) -> State:
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata() or {}
    # Files from elsewhere have none.
    said = about.pop("sha256", None)
    if said not in (None, checksum(state, about)):
        raise WrongWeights(
            f"{path} is damaged: its content is not what was written; delete it and make it again."
        )
    return state


def checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """SHA-256 of tensors and of what is noted beside them."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, without a point at its end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def features_state(state: State, features: nn.Module, head: Iterable[str], origin: str) -> State:
    """The weights of the features out of those of a classifier.

    Args:
        state: tensors by the classifier's names, with or without its head.
        features: the network that they are for.
        head: prefixes of names that belong to the head and are left out.
        origin: where the weights come from, for messages.

    Returns:
        One contiguous tensor for each name of ``features.state_dict()``.

    Raises:
        WrongWeights: if names are missing or left over, or a shape differs.
    """
    wanted = features.state_dict()
    prefixes = tuple(head)
    given = {n: t for n, t in state.items() if n in wanted or not n.startswith(prefixes)}
    # Networks saved by PyTorch before 0.4.1 do not count batches, and nothing here reads the count.
    missing = [n for n in wanted if n not in given and not n.endswith(_COUNTER)]
    unexpected = [n for n in given if n not in wanted]
    if missing or unexpected:
        parts = [
            f"{what} {len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (("lack", missing), ("have too many:", unexpected))
            if names
        ]
        raise WrongWeights(
            f"the weights from {origin} are not those of this network: of its {len(wanted)} tensors "
            f"they {' and '.join(parts)}; set backbone.network to the architecture of the file."
        )
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            raise WrongWeights(
                f"{name!r} from {origin} has shape {tuple(value.shape)}, but the network has "
                f"{tuple(wanted[name].shape)}: set backbone.network to the architecture of the file."
            )
        plain = value.layout is torch.strided and not value.is_meta
        if not plain or (wanted[name].is_floating_point() and not value.is_floating_point()):
            raise WrongWeights(
                f"{name!r} from {origin} is {value.dtype}, {value.layout}, on {value.device}, but the network "
                f"has {wanted[name].dtype}: take weights that are neither quantised nor left out."
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WrongWeights(
                f"{name!r} from {origin} contains NaN or infinite values: take other weights."
            )
    return {
        name: given.get(name, like).to(like.dtype).clone().contiguous()
        for name, like in wanted.items()
    }
