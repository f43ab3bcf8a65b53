"""Second moments of the patches that go into a layer, and the eigenbases they give."""

import torch
from torch import Tensor

from lqf.curvature.calls import LayerCall
from lqf.curvature.eigenbasis import decompose, decompose_root

# Entries of the patches of one layer that are held at a time.
_CHUNK = 1 << 24
#: Inputs of layers wider than this are seen through a sample of their patches, in a basis of `RANK`.
WIDE, RANK = 1024, 512
#: Patches of a wide layer that its basis is made of.
PATCHES = 2048


class InputMoment:
    """The eigenbasis of A = (1/NS) Σ_i Σ_s a_s a_sᵀ of a layer's patches ("expand").

    A wide layer's basis is that of some patches of every image, spread evenly over its positions, and
    thin: the `RANK` directions that hold most of them.  The corrected eigenvalues keep the block's trace
    (`lqf.curvature.estimate`).

    Args:
        samples: N, over all batches.
        generator: draws the patches of wide layers.
    """

    def __init__(self, samples: int, generator: torch.Generator) -> None:
        self._samples, self._generator = samples, generator
        self._sum: Tensor | None = None
        self._rows: list[Tensor] = []

    def add(self, call: LayerCall) -> None:
        """Add a batch."""
        each = call.patches(slice(1))
        size, positions = each.shape[2:]
        if size > WIDE:
            self._add_some(call)
            return
        for start in range(0, len(call.inputs), step := max(1, _CHUNK // each.numel())):
            patches = call.patches(slice(start, start + step))
            rows = patches.permute(1, 2, 0, 3).flatten(2)
            moment = (rows @ rows.mT).div_(self._samples * positions)
            self._sum = moment if self._sum is None else self._sum.add_(moment)

    def _add_some(self, call: LayerCall) -> None:
        count = max(1, PATCHES // self._samples)
        for i in range(len(call.inputs)):
            patches = call.patches(slice(i, i + 1))[0]
            S = patches.shape[2]
            if count < S:
                drawn = torch.randperm(S, generator=self._generator)[:count]
                patches = patches[:, :, drawn.to(patches.device)]
            self._rows.append(patches.mT)

    def basis(self, name: str) -> Tensor:
        """The eigenvectors, one a column, G × d × r with r ≤ d."""
        if self._sum is not None:
            return decompose(self._sum, f"A of {name}")[1]
        rows = torch.cat(self._rows, 1)
        if rows.shape[1] > PATCHES:
            drawn = torch.randperm(rows.shape[1], generator=self._generator)[:PATCHES]
            rows = rows[:, drawn.to(rows.device)]
        if rows.shape[1] > rows.shape[2]:
            return decompose(rows.mT @ rows, f"A of {name}")[1][..., -RANK:]
        values, vectors = decompose_root(rows, f"A of {name}")
        return vectors[..., values.sum(0).argsort(descending=True)[:RANK]].contiguous()
