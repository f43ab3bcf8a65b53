"""The Gram matrix ``K = J(x) J(x')ᵀ`` of a network whose Jacobian does not fit in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lqf.linear.images import Images
from lqf.linear.linearized import Linearized

#: Samples that one forward-mode run of the network takes.
_BATCH = 64


def block_samples(linearized: Linearized, outputs: int, like: Tensor, memory: int) -> int:
    """Samples in a block of rows, of which two are held at a time; 0 if no block fits.

    Args:
        linearized: the linearised network.
        outputs: C.
        like: a tensor of the precision of the rows.
        memory: bytes that may be used.
    """
    return memory // (2 * outputs * linearized.layout.size * like.element_size())


def tangent_kernel(
    linearized: Linearized,
    images: Images,
    others: Images | None = None,
    *,
    memory: int,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """K between samples, in blocks of rows of J that are computed again for every pair of blocks.

    Where not even the rows of two samples fit, K is computed column by column, ``J(Jᵀe)``, which
    takes memory for one row.

    Args:
        linearized: the linearised network.
        images: N × 3 × H × W.
        others: M × 3 × H × W; None for the same images, whose K is symmetric.
        memory: bytes of rows of J that may be held.
        progress: called once for every sample in ``images``.

    Returns:
        NC × MC, float64, rows in sample-major order.
    """
    count = len(images)
    symmetric = others is None
    columns = images if others is None else others
    outputs = linearized.outputs(images[:1])
    C = outputs.shape[1]
    size = block_samples(linearized, C, outputs, memory)
    result = torch.empty(count * C, len(columns) * C, dtype=torch.float64, device=outputs.device)
    for start in range(0, count, max(size, 1)):
        stop = min(start + max(size, 1), count)
        first = start if symmetric else 0
        place = result[start * C : stop * C, first * C :]
        if size:
            rows = linearized.jacobian(images[start:stop], size).flatten(0, 1)
            for left in range(first, len(columns), size):
                right = min(left + size, len(columns))
                again = rows
                if not symmetric or left > start:
                    again = linearized.jacobian(columns[left:right], size).flatten(0, 1)
                place[:, (left - first) * C : (right - first) * C] = (rows @ again.T).double()
        else:
            image = images[start:stop]
            for c in range(C):
                row = linearized.vjp(image, torch.eye(C).to(outputs)[c : c + 1])
                for left in range(first, len(columns), _BATCH):
                    part = columns[left : min(left + _BATCH, len(columns))]
                    end = left - first + len(part)
                    product = linearized.jvp(part, row).reshape(-1)
                    place[c, (left - first) * C : end * C] = product.double()
        if symmetric:
            result[stop * C :, start * C : stop * C] = place[:, (stop - start) * C :].T
        if progress is not None:
            for _ in range(start, stop):
                progress()
    return result
