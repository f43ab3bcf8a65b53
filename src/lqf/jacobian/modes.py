"""How a network is run while it is differentiated: in evaluation mode, in its own precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode after it, whatever happens."""
    # The flags are set one by one: a frozen batch norm may ignore `.train()`.
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def substituted(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Other tensors, by parameter name, in the place of parameters inside the block.

    ``torch.func.functional_call`` leaves the substitutes in a module that is reached by two names;
    here each module is visited once.  Buffers that the network binds anew are bound back, too.
    """
    named = {id(p): values[n] for n, p in network.named_parameters() if n in values}
    stores: list[Any] = [s for m in network.modules() for s in (m._parameters, m._buffers)]
    saved = [dict(store) for store in stores]
    try:
        for store in stores:
            for key, tensor in store.items():
                store[key] = named.get(id(tensor), tensor)
        yield
    finally:
        for store, before in zip(stores, saved, strict=True):
            store.clear()
            store.update(before)


@contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """No mixed precision, and attention in kernels that have a forward-mode derivative."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No mixed precision, no TF32 (J and Jᵀ would disagree by a thousandth), no inference mode."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False), torch.inference_mode(False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = convolution
