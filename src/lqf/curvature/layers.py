"""The two layer types that have a Kronecker block, in one format.

A layer's input becomes patches a, b × groups × d × S, and the gradient by its output becomes g,
b × groups × o × S: b samples, S positions at which the weight is used (output pixels of a
convolution, tokens of a linear layer, otherwise 1). In that format the gradient of one sample is

    weight: Σ_s g_s a_sᵀ (o × d for every group)        bias: Σ_s g_s,

so that the bias is the weight of a constant input 1 (homogeneous coordinate). A convolution with
groups is that many independent layers side by side.

| layer  | groups | d                           | o                   |
|--------|--------|-----------------------------|---------------------|
| Conv2d | groups | in_channels/groups · kh · kw | out_channels/groups |
| Linear | 1      | in_features                 | out_features        |
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lqf.curvature.recording import Record

# The layer types with a Kronecker block.
Treated = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer with at least one trained parameter.

    Attributes:
        path: name of the module in the network.
        module: the module.
        weight: full name of its weight if that is trained.
        bias: full name of its bias if that is trained.
    """

    path: str
    module: Treated
    weight: str | None
    bias: str | None

    @property
    def groups(self) -> int:
        """Number of independent blocks."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1

    def patch_entries(self, inputs: Tensor) -> int:
        """Return the number of entries in the patches of one sample, groups · d · S.

        Args:
            inputs: input of the layer.

        Returns:
            The memory that unfolding a sample takes, in entries; 1 at least.
        """
        module = self.module
        if isinstance(module, nn.Linear):
            return max(1, inputs[0].numel())
        with torch.no_grad():
            positions = self.patches(inputs[:1]).shape[-1]
        return max(1, module.in_channels * module.weight[0, 0].numel() * positions)

    def patches(self, inputs: Tensor) -> Tensor:
        """Return what the weight is applied to, b × groups × d × S.

        Args:
            inputs: input of the layer, b × C × H × W or b × ... × d.

        Returns:
            Patches; only those coordinates that a trained parameter multiplies (d = 0 if the
            weight is not trained).
        """
        if isinstance(self.module, nn.Linear):
            flat = inputs.reshape(len(inputs), 1, -1, inputs.shape[-1]).mT
        else:
            padded, padding = _padded(self.module, inputs)
            module = self.module
            flat = functional.unfold(
                padded, module.kernel_size, module.dilation, padding, module.stride
            )
            flat = flat.reshape(len(inputs), self.groups, -1, flat.shape[-1])
        return flat if self.weight is not None else flat[:, :, :0]

    def mean_patches(self, inputs: Tensor) -> Tensor:
        """Return the patches averaged over positions, b × groups × d, without forming them.

        Args:
            inputs: input of the layer.

        Returns:
            Mean over the S positions of `patches(inputs)`.
        """
        if isinstance(self.module, nn.Linear):
            return self.patches(inputs).mean(-1)
        module = self.module
        padded, padding = _padded(module, inputs)
        rows, columns = padding
        padded = functional.pad(padded, (columns, columns, rows, rows))
        kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
        size = [
            (padded.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i in range(2)
        ]
        means = []
        for i in range(kernel[0]):
            top = i * dilation[0]
            band = padded[:, :, top : top + stride[0] * (size[0] - 1) + 1 : stride[0]].mean(2)
            for j in range(kernel[1]):
                left = j * dilation[1]
                means.append(
                    band[:, :, left : left + stride[1] * (size[1] - 1) + 1 : stride[1]].mean(2)
                )
        flat = torch.stack(means, dim=2).reshape(len(inputs), self.groups, -1)
        return flat if self.weight is not None else flat[:, :, :0]

    def gradients(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the layer's output as b × groups × o × S.

        Args:
            gradient: in the shape of the layer's output.

        Returns:
            The same numbers, regrouped.
        """
        if isinstance(self.module, nn.Linear):
            return gradient.reshape(len(gradient), 1, -1, gradient.shape[-1]).mT
        return gradient.reshape(len(gradient), self.groups, -1, gradient[0, 0].numel())

    def homogeneous(self, patches: Tensor) -> Tensor:
        """Append the constant 1 to the patches if the bias is trained.

        Args:
            patches: b × groups × d × S.

        Returns:
            b × groups × (d + 1) × S, or the patches themselves.
        """
        if self.bias is None:
            return patches
        ones = patches.new_ones(*patches.shape[:2], 1, patches.shape[3])
        return torch.cat([patches, ones], dim=2)

    def sample_gradients(self, record: Record, gradient: Tensor) -> dict[str, Tensor]:
        """Return the gradient of each sample by the layer's trained parameters.

        Args:
            record: the forward pass.
            gradient: gradient by the layer's output, b × ....

        Returns:
            By parameter name, b × shape of the parameter.
        """
        g = self.gradients(gradient)
        rows = {}
        if self.weight is not None:
            patches = self.patches(record.unchanged_input(self.path))
            shape = (len(g), *self.module.weight.shape)
            rows[self.weight] = (g @ patches.mT).reshape(shape)
        if self.bias is not None:
            rows[self.bias] = g.sum(-1).flatten(1)
        return rows


def _padded(module: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the input and the zero padding still to be applied on both sides (rows, columns)."""
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return inputs, cast(tuple[int, int], module.padding)
    # "same" padding may be uneven, and other modes do not pad with zeros.
    sides = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, sides, mode=mode), (0, 0)
