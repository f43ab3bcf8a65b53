"""Networks of a few parameters, and the dense Gauss–Newton matrix as an oracle."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from lqf.curvature import KroneckerFactors
from lqf.linear import Layout

N, C = 6, 3


def images(seed: int = 0, samples: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, 6, 6, generator=generator, dtype=torch.float64)


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights, batch-norm statistics too, from one seed, in float64."""
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data.copy_(1 + 0.3 * drawn.abs() if "var" in name else 0.4 * drawn)
    return network


def conv_network() -> nn.Module:
    """Stride, dilation, no bias, in-place activation, a head on several features."""
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, stride=2),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(4, 5, 2, dilation=2, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(5 * 3 * 3, C),
        )
    )


class TokenNetwork(nn.Module):
    """A linear layer applied at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.mix = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2).mT)
        return self.head((tokens + torch.tanh(self.mix(tokens))).mean(1))


class NormNetwork(nn.Module):
    """Batch, group and layer norm, a residual sum, and a free parameter of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(4)
        self.group_norm = nn.GroupNorm(2, 4)
        self.layer_norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        x = self.batch_norm(self.conv(x * self.scale))
        x = x + functional.relu(self.group_norm(x))
        return self.head(self.layer_norm(x.mean((2, 3))))


def dense_jacobian(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return J by parameter name, N × C × shape, by differentiating the network as a function."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    return jacrev(lambda p: functional_call(network, p, (x,)))(parameters)


def dense_block(rows: dict[str, Tensor], weight: str, bias: str | None, groups: int = 1) -> Tensor:
    """Return the exact blocks of G in the format of `KroneckerBlock`, groups × o(d+1) × o(d+1)."""
    J = rows[weight]
    samples, outputs, size = J.shape[:3]
    J = J.reshape(samples, outputs, groups, size // groups, -1)
    if bias is not None:
        b = rows[bias].reshape(samples, outputs, groups, size // groups, 1)
        J = torch.cat([J, b], dim=-1)
    J = J.flatten(3).permute(2, 0, 1, 3).flatten(1, 2)
    return J.mT @ J / samples


def dense_kronecker(A: Tensor, B: Tensor) -> Tensor:
    """Return B ⊗ A of every group, in the row-major order of a matrix o × d."""
    return torch.stack([torch.kron(b, a) for a, b in zip(A, B, strict=True)])


def dense_approximation(
    factors: KroneckerFactors, layout: Layout, blocks: dict[str, Tensor] | None = None
) -> Tensor:
    """Return the block-diagonal approximation of G as a matrix P × P.

    `blocks` replaces B ⊗ A by layer, groups × o(d+1) × o(d+1).
    """
    matrix = torch.zeros(layout.size, layout.size, dtype=torch.float64)
    where, offset = {}, 0
    for name, size in zip(layout.names, layout.sizes, strict=True):
        where[name] = torch.arange(offset, offset + size)
        offset += size
    for path, block in factors.blocks.items():
        groups, o, _ = block.B.shape
        parts = [where[block.weight].reshape(groups, o, -1)]
        if block.bias is not None:
            parts.append(where[block.bias].reshape(groups, o, 1))
        index = torch.cat(parts, 2).flatten(1)
        values = dense_kronecker(block.A, block.B) if blocks is None else blocks[path]
        for g in range(groups):
            matrix[index[g][:, None], index[g]] = values[g]
    for name, value in factors.diagonal.items():
        matrix[where[name], where[name]] = value.flatten()
    return matrix


def dense_operator(kind: type, network: nn.Module, x: Tensor, approximation: str) -> Tensor:
    """Return curvlinops' type-2 (E)KFAC of the squared loss as a matrix P × P, in our scale.

    Its loss is the sum of ‖f − y‖², whose Hessian is 2I where ours is I and a mean over samples.
    """
    operator = kind(
        network,
        nn.MSELoss(reduction="sum"),
        list(network.parameters()),
        [(x, torch.zeros(len(x), C, dtype=x.dtype))],
        fisher_type="type-2",
        kfac_approx=approximation,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    sizes = [parameter.numel() for parameter in network.parameters()]
    columns = torch.eye(sum(sizes), dtype=x.dtype).split(sizes)
    shaped = [
        part.reshape(*parameter.shape, sum(sizes))
        for part, parameter in zip(columns, network.parameters(), strict=True)
    ]
    product = operator @ shaped
    return torch.cat([part.reshape(-1, sum(sizes)) for part in product]) / (2 * len(x))
