"""Batch normalisation that stays as pre-trained: frozen, or folded into the convolution before it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from copy import deepcopy

import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import update_bn

from lqf.jacobian.images import Images

log = logging.getLogger(__name__)

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """Make batch normalisation use its running statistics, whatever ``.train()`` says.

    Its weight γ and bias β stay trainable.  Returns the same network.
    """
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return network


def recalibrate_batch_norm(network: nn.Module, images: Images, batch: int = 64) -> int:
    """Estimate the running statistics anew, for a network whose activations were swapped; how many layers have some.

    Each layer gets the plain mean over nearly equal batches, taken in order, of their means and
    variances, in one pass in which every layer already uses the statistics of the batch.

    Args:
        network: changed in place; its parameters stay.
        images: unlabelled images of the target task, N × 3 × H × W.
        batch: images in a batch.
    """
    layers = [m for m in network.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    if layers:
        parts = torch.arange(len(images)).tensor_split(math.ceil(len(images) / batch))
        update_bn((images[part] for part in parts), network)
    log.info("batch norm: statistics of %d layers from %d images", len(layers), len(images))
    return len(layers)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy, in evaluation mode, in which each batch norm that follows a convolution is folded into it.

    The function computed at w0 in evaluation mode is the same; the parameters are not (the
    convolution's weight and a new bias take the place of weight, γ and β), and with them the
    metric of ``‖w − w0‖²``.  Every remaining parameter then has a Kronecker block (GaF folds too).

    A pair is left as it is where some of its parameters have ``requires_grad=False`` and some not,
    since what is trained and what stays could then not be told apart.  ``torch.fx`` has to be able to
    trace the network.
    """
    network = deepcopy(network).eval()
    if not has_batch_norm(network):
        return network
    graph = symbolic_trace(network).graph
    modules = dict(network.named_modules())
    calls = Counter(id(modules[n.target]) for n in graph.nodes if n.op == "call_module")
    folded = 0
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], BatchNorm):
            continue
        before = node.args[0] if node.args else None
        if before is None or before.op != "call_module" or len(before.users) > 1:
            continue
        pair = (modules[before.target], modules[node.target])
        # A module called twice cannot take one of its calls' batch norms into its weights.
        if not all(_plain(m) and calls[id(m)] == 1 for m in pair):
            continue
        trained = {p.requires_grad for module in pair for p in module.parameters()}
        if len(trained) > 1 or pair[1].running_var is None:
            continue
        fused = fuse_conv_bn_eval(*pair).requires_grad_(trained.pop())
        _replace(network, {id(pair[0]): fused, id(pair[1]): nn.Identity()})
        folded += 1
    left = sum(isinstance(m, BatchNorm) for m in network.modules())
    log.info("batch norm: %d folded into convolutions, %d left frozen", folded, left)
    return network


def _plain(module: nn.Module) -> bool:
    """Whether a module computes what its type says, with parameters of its own."""
    return (
        type(module) in (nn.Conv2d, nn.BatchNorm2d)
        and "forward" not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and (module._parameters.get("weight") is not None or not isinstance(module, nn.Conv2d))
    )


def _replace(network: nn.Module, new: dict[int, nn.Module]) -> None:
    """Put modules in the place of others, under every name that they have."""
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None and id(child) in new:
                module._modules[name] = new[id(child)]


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any batch normalisation is left."""
    return any(isinstance(m, BatchNorm) for m in network.modules())
