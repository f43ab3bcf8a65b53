"""How many images run through a network at once: by an estimate first, and halved where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Most images of a pass whose result does not depend on how many run at once.
LARGEST = 256


class AtOnce:
    """A number of images that is halved whenever memory runs out, and stays so.

    Args:
        size: images at once.
        what: what they run through, for the log.

    Raises:
        ValueError: if ``size`` is not positive.
    """

    def __init__(self, size: int, what: str = "a pass") -> None:
        if size < 1:
            raise ValueError(f"{size} images at once were asked for; at least 1 is needed.")
        self.size, self.what = size, what

    def run(self, work: Callable[[int], Result], count: int | None = None) -> Result:
        """Do the work, from its beginning with half as many images wherever memory runs out.

        Args:
            work: does all of it with that many images at once; what a failed run has changed is
                undone by the next one.
            count: how many images there are, where it is known.

        Returns:
            What the work returns.

        Raises:
            RuntimeError: if a single image is too much.
        """
        while True:
            size = self.size if count is None else max(1, min(self.size, count))
            try:
                return work(size)
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
            # Here, outside the handler, nothing holds the tensors of the failed run any longer.
            self.size = size // 2
            log.warning(
                "%s: memory ran out with %d images at once; from now on %d are.",
                self.what,
                size,
                self.size,
            )
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def refuse_out_of_memory(error: Exception) -> None:
    """Raise an error again if it says that memory ran out."""
    if isinstance(error, RuntimeError) and out_of_memory(error):
        raise error


def graph_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes that the graph of a network's outputs keeps for one image, 1 × 3 × H × W, beside the weights."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.enable_grad(), saved_tensors_hooks(count, lambda tensor: tensor):
            outputs = network(image.detach().requires_grad_())
    finally:
        for module, mode in training.items():
            module.training = mode
    del outputs
    return sum(kept.values())


def images_at_once(network: nn.Module, image: Tensor, gigabytes: float) -> int:
    """How many images, 1 to `LARGEST`, a differentiated pass can hold in so many gigabytes, beside weights and δ.

    Twice what the graph of one image, 1 × 3 × H × W, keeps is taken, for tangents, gradients and the workspace of
    convolutions.
    """
    each = max(1, 2 * graph_bytes(network, image))
    return int(max(1, min(LARGEST, gigabytes * 1e9 // each)))
