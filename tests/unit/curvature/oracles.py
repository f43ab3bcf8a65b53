"""Networks that use their parameters in many ways, and their Jacobians one image at a time."""

import torch
from dense_networks import seeded
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from lqf.jacobian import Linearized

N, C = 5, 3


def images(count: int = N, seed: int = 0, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def rows(linearized: Linearized, pictures: Tensor) -> Tensor:
    """J, N × C × P, by plain autograd."""
    named = dict(linearized.network.named_parameters())
    weights = [named[name] for name in linearized.layout.names]
    found = []
    for picture in pictures:
        outputs = linearized.network(picture[None])[0]
        for output in outputs:
            gradients = torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True)
            found.append(
                torch.cat(
                    [
                        (torch.zeros_like(w) if g is None else g).reshape(-1)
                        for w, g in zip(weights, gradients, strict=True)
                    ]
                )
            )
    return torch.stack(found).reshape(len(pictures), -1, linearized.layout.size)


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, stride=2),
        nn.LeakyReLU(0.1),
        nn.Conv2d(4, 6, 2, dilation=2, padding=1, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, C),
    )


class Tokens(nn.Module):
    """Layers on tokens: by sample, merged into the batch, before it, by keyword, or some samples only."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how
        self.embed, self.mix, self.other = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.embed(x).flatten(2).mT)
        if self.how == "merged":
            h = torch.tanh(self.mix(h.flatten(0, 1))).unflatten(0, (len(x), -1))
        elif self.how == "first":
            h = torch.tanh(self.mix(h.transpose(0, 1))).transpose(0, 1)
        elif self.how == "experts":
            out, high = torch.zeros_like(h), h[:, 0, 0] > 0
            out[high], out[~high] = self.mix(h[high]), self.other(h[~high])
            h = out
        else:
            h = torch.tanh(self.mix(input=h))
        return self.head(h.mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = (
            nn.Conv2d(3, 4, 2, 2),
            nn.MultiheadAttention(4, 2, batch_first=True),
        )
        self.token, self.head = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1)
        return self.head(self.attend(h, h, h, need_weights=False)[0][:, 0])


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3), nn.Linear(3, C)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(torch.tanh(self.first(x))))
        h = F.conv2d(h, self.again.weight * 2, self.again.bias)
        return self.head(h.mean((2, 3)))


def changed(how: str) -> nn.Sequential:
    network = plain()
    if how == "pruned":
        prune.l1_unstructured(network[2], "weight", 0.5)
    elif how == "weight norm":
        network[0] = parametrizations.weight_norm(network[0])
    elif how == "output hook":
        network[0].register_forward_hook(lambda _, __, output: 2 * output)
    elif how == "standardised":
        layer = network[0]
        layer.forward = lambda x: F.conv2d(
            x, layer.weight - layer.weight.mean((1, 2, 3), keepdim=True), layer.bias, 2, 1
        )
    return network


def normalised() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular"),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 6, 1, groups=2, stride=2),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(54, C),
    )


#: How many parameters the trial leaves to be differentiated one image at a time.
NETWORKS = {
    "plain": (plain, 0),
    "normalised": (normalised, 0),
    "tokens": (Tokens, 2),
    "merged": (lambda: Tokens("merged"), 2),
    "first": (lambda: Tokens("first"), 2),
    "experts": (lambda: Tokens("experts"), 2),
    "attention": (Attention, 5),
    "twice": (Twice, 4),
    "pruned": (lambda: changed("pruned"), 1),
    "weight norm": (lambda: changed("weight norm"), 3),
    "output hook": (lambda: changed("output hook"), 0),
    "standardised": (lambda: changed("standardised"), 2),
    "recurrent": (
        lambda: nn.Sequential(
            nn.Flatten(2), nn.RNN(36, 4, batch_first=True), Last(), nn.Linear(4, C)
        ),
        4,
    ),
}


class Last(nn.Module):
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0][:, -1]


def linearized(name: str) -> Linearized:
    torch.manual_seed(0)
    network = seeded(NETWORKS[name][0]())
    if name == "tokens":  # parameters that this way of running does not use
        return Linearized(network)
    used = [n for n, _ in network.named_parameters() if name == "experts" or "other" not in n]
    return Linearized(network, used)
