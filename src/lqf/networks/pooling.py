"""Pooling of a feature map: average, or the matrix square root of its covariance.

Covariance pooling (LQF §4.2; Li et al. 2018, "iSQRT-COV"): the D channels are reduced to d by a
1 × 1 convolution, their centred covariance over the S positions is divided by its trace, its
square root found by Newton–Schulz iterations, the trace put back, and the upper triangle read.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn


class AveragePooling(nn.Module):
    """Mean over positions: N × D × h × w to N × D.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.size = channels

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, N × D."""
        return x.mean((2, 3))


def covariance(x: Tensor) -> Tensor:
    """Centred covariance of the channels over positions: N × d × S to N × d × d."""
    centred = x - x.mean(2, keepdim=True)
    return centred @ centred.transpose(1, 2) / x.shape[2]


def matrix_square_root(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Square root of positive semi-definite matrices by Newton–Schulz, N × d × d.

    The iteration converges for matrices of norm below 1, so the trace is divided out first and
    its root multiplied back afterwards.  A matrix of zeros gives zeros.
    """
    trace = matrix.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    trace = trace.clamp_min(torch.finfo(matrix.dtype).tiny ** 0.5)
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    Y, Z = matrix / trace, identity.expand_as(matrix)
    for _ in range(iterations):
        T = 1.5 * identity - 0.5 * (Z @ Y)
        Y, Z = Y @ T, T @ Z
    return Y * trace.sqrt()


# Folding batch norm traces the network; these two are one node each in its graph.
fx.wrap("covariance")
fx.wrap("matrix_square_root")


class CovariancePooling(nn.Module):
    """Upper triangle of the square root of the covariance: N × D × h × w to N × d(d+1)/2.

    Args:
        channels: D.
        dimension: d, channels after the 1 × 1 reduction.
        iterations: Newton–Schulz iterations.
    """

    scale: Tensor
    triangle: Tensor

    def __init__(self, channels: int, dimension: int, iterations: int = 5) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, dimension, 1)
        self.iterations = iterations
        self.size = dimension * (dimension + 1) // 2
        rows, columns = torch.triu_indices(dimension, dimension)
        self.register_buffer("triangle", rows * dimension + columns, persistent=False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, N × d(d+1)/2."""
        root = matrix_square_root(covariance(self.reduce(x).flatten(2)), self.iterations)
        return self.scale * root.flatten(1)[:, self.triangle]

    @torch.no_grad()
    def calibrate(self, maps: Tensor) -> None:
        """Fit the reduction to unlabelled feature maps, and match the scale of average pooling.

        The 1 × 1 convolution becomes the projection on the d leading principal components of
        the features; ``scale`` makes the mean norm of the pooled features what it would be
        after average pooling, so that the random head starts as large as it does there.

        Args:
            maps: feature maps of training images, N × D × h × w.
        """
        rows = maps.transpose(0, 1).flatten(1).double()
        centred = rows - rows.mean(1, keepdim=True)
        _, vectors = torch.linalg.eigh(centred @ centred.T / rows.shape[1])
        leading = vectors.flip(1)[:, : self.reduce.out_channels]
        # An eigenvector's sign is arbitrary: its largest entry is made positive.
        leading = leading * leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
        self.reduce.weight.copy_(leading.T[:, :, None, None])
        if self.reduce.bias is not None:
            self.reduce.bias.copy_(-(leading.T @ rows.mean(1)))
        self.scale.fill_(1.0)
        ratio = maps.mean((2, 3)).norm(dim=1).mean() / self(maps).norm(dim=1).mean()
        self.scale.copy_(ratio)
