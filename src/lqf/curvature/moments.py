"""Second moments of what goes into a layer and of the gradients by what comes out of it."""

import torch
from torch import Tensor

from lqf.curvature.eigenbasis import worth_a_root
from lqf.curvature.layers import Layer
from lqf.curvature.shifts import has_shifts, shifted_moment

# Entries of the patches of one layer that are held at a time.
_CHUNK = 1 << 24
# Columns of the tiles in which a symmetric product is computed.
_TILE = 512


class InputMoment:
    """Sums up A = (1/NS) Σ_i Σ_s a_s a_sᵀ ("expand") or (1/N) Σ_i ā āᵀ ("reduce") of a layer.

    A large A of few rows is kept as its rows: that is less memory and no multiplication.
    """

    def __init__(self, layer: Layer, samples: int, expand: bool) -> None:
        """Prepare the sum.

        Args:
            layer: the layer.
            samples: N, over all batches.
            expand: "expand", not "reduce".
        """
        self._layer, self._samples, self._expand = layer, samples, expand
        self._sum: Tensor | None = None
        self._rows: list[Tensor] = []

    def add(self, inputs: Tensor) -> None:
        """Add a batch.

        Args:
            inputs: input of the layer, of b samples.
        """
        layer = self._layer
        entries = layer.patch_entries(inputs)
        if self._expand and layer.weight is not None and has_shifts(layer.module, inputs):
            size = layer.module.weight[0].numel() + (layer.bias is not None)
            positions = inputs[0, 0].numel()
            if not worth_a_root(self._samples * positions, size):
                # A map takes about twice its entries, not nine times as its patches do.
                for part in inputs.split(max(1, 4 * _CHUNK // entries)):
                    moment = shifted_moment(part, layer.bias is not None)
                    self._add(moment[None].div_(self._samples * positions))
                return
        for part in inputs.split(max(1, _CHUNK // entries)):
            if self._expand:
                patches = layer.homogeneous(layer.patches(part))
            else:
                patches = layer.homogeneous(layer.mean_patches(part).unsqueeze(-1))
            size, positions = patches.shape[2:]
            rows = patches.permute(1, 2, 0, 3).flatten(2)
            if worth_a_root(self._samples * positions, size):
                self._rows.append(rows.mT / (self._samples * positions) ** 0.5)
                continue
            self._add(second_moment(rows).div_(self._samples * positions))

    def _add(self, moment: Tensor) -> None:
        self._sum = moment if self._sum is None else self._sum.add_(moment)

    def finish(self) -> tuple[Tensor, bool]:
        """Return the moment.

        Returns:
            A, groups × d × d, and False; or the rows R of A = RᵀR, groups × r × d, and True.

        Raises:
            ValueError: if nothing was added.
        """
        if self._rows:
            return torch.cat(self._rows, dim=1), True
        if self._sum is None:
            raise ValueError(
                f"no image was seen by layer {self._layer.path!r}; at least one is needed."
            )
        return symmetric(self._sum), False


def gradient_moment(layer: Layer, gradient: Tensor, expand: bool) -> Tensor:
    """Return Σ_i of the second moment of the gradient by a layer's output.

    Args:
        layer: the layer.
        gradient: gradient by its output, b × ....
        expand: "expand", not "reduce".

    Returns:
        Σ_i Σ_s g_s g_sᵀ ("expand") or Σ_i ĝ ĝᵀ with ĝ = Σ_s g_s ("reduce"), groups × o × o.
    """
    g = layer.gradients(gradient)
    rows = g.permute(1, 2, 0, 3).flatten(2) if expand else g.sum(-1).permute(1, 2, 0)
    return second_moment(rows)


def second_moment(rows: Tensor) -> Tensor:
    """Return X Xᵀ, the half above the diagonal computed and mirrored.

    Args:
        rows: X, groups × d × n.

    Returns:
        groups × d × d.
    """
    size = rows.shape[1]
    if size <= _TILE:
        return rows @ rows.mT
    result = rows.new_empty(len(rows), size, size)
    for start in range(0, size, _TILE):
        stop = min(start + _TILE, size)
        strip = rows[:, start:stop] @ rows[:, start:].mT
        result[:, start:stop, start:] = strip
        result[:, stop:, start:stop] = strip[:, :, stop - start :].mT
    return result


def symmetric(matrix: Tensor) -> Tensor:
    """Return (M + Mᵀ)/2.

    Args:
        matrix: groups × d × d.

    Returns:
        The same without what rounding did to one half only.
    """
    return (matrix + matrix.mT) / 2
