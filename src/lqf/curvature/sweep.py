"""One pass over the images: a forward pass a batch, and one backward pass a probe."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lqf.curvature.plan import Plan
from lqf.curvature.probes import Combinations, Probes
from lqf.curvature.recording import Record, forward, leaves
from lqf.linear.images import Images
from lqf.memory import AtOnce

# Called as progress(done, total, note) after every batch.
Progress = Callable[[int, int, str], None]

# on_gradients(record, gradients by the outputs of the plan's modules, weight of the probe).
OnGradients = Callable[[Record, dict[str, Tensor], float], None]


def sweep(
    network: nn.Module,
    images: Images,
    names: tuple[str, ...],
    plan: Plan,
    *,
    probes: Callable[[int], Probes | Combinations],
    batch: int,
    on_forward: Callable[[Record], None],
    on_gradients: OnGradients,
    progress: Progress | None,
    note: str,
) -> None:
    """Visit every batch and probe.

    Gradients are taken by the outputs of the plan's modules only, not by their weights, which is
    less work than an ordinary backward pass.

    Args:
        network: the network at w0.
        images: N × ....
        names: the trained parameters.
        plan: the modules to watch.
        probes: makes the probes once the number of outputs is known.
        batch: images in one forward pass.
        on_forward: called once a batch, before its backward passes.
        on_gradients: called once a batch and probe.
        progress: called after each batch.
        note: what to call the work in `progress`.
    """
    parameters = leaves(network, names)
    like = next(iter(parameters.values()))
    signs: Tensor | None = None
    drawn: Probes | Combinations | None = None
    done = 0
    with torch.autocast(like.device.type, enabled=False):
        for part in images.split(batch):
            record = forward(network, parameters, part.to(like), plan.paths)
            if drawn is None:
                drawn = probes(record.outputs.shape[1])
                signs = drawn.draw()
            with torch.no_grad():
                on_forward(record)
            # A module on which this batch's outputs do not depend has no edge and no gradient.
            edges = {path: record.calls[path].edge for path in plan.paths}
            targets = [edge for edge in edges.values() if edge is not None]
            for k in range(drawn.count):
                if signs is None:
                    probe = torch.zeros_like(record.outputs)
                    probe[:, k] = 1.0
                else:
                    probe = signs[k, done : done + len(part)].to(record.outputs)
                found = torch.autograd.grad(
                    record.outputs, targets, probe, retain_graph=k + 1 < drawn.count
                )
                with torch.no_grad():
                    on_gradients(record, dict(zip(edges, found, strict=True)), drawn.weight)
            done += len(part)
            if progress is not None:
                progress(done, len(images), note)


def check_images(images: Images, batch: int | AtOnce) -> AtOnce:
    """Refuse images that cannot be passed through a network.

    Args:
        images: N × ....
        batch: images in one pass.

    Returns:
        How many run at once.

    Raises:
        ValueError: if there are none, they are not floating point, or the batch is not positive.
    """
    if isinstance(batch, int) and batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1.")
    if len(images) == 0:
        raise ValueError("images is empty; at least one image is needed.")
    if not images.dtype.is_floating_point:
        raise ValueError(
            f"images has dtype {images.dtype}; normalised floating-point images are needed, as the "
            "network takes them."
        )
    return AtOnce(batch, "the curvature") if isinstance(batch, int) else batch
