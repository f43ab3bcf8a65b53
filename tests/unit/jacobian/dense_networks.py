"""The dense Jacobian of a network as a function of its parameters, by reverse mode."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from lqf.jacobian import Kept, Linearized


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every weight and statistic from one seed, in float64, evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and "mask" not in name:
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data.copy_(1 + 0.3 * drawn.abs() if "var" in name else 0.4 * drawn)
    return network


def random(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def dense(linearized: Linearized, images: Tensor) -> Tensor:
    """J, N × C × P, with one row a backward pass of the whole batch."""
    network = deepcopy(linearized.network)  # functional_call changes one that uses a module twice
    parameters = {n: p.detach() for n, p in network.named_parameters()}
    trained = {name: parameters[name] for name in linearized.layout.names}

    def outputs(w: dict[str, Tensor]) -> Tensor:
        return functional_call(network, {**parameters, **w}, (images,))

    rows = jacrev(outputs)(trained)
    return torch.cat([rows[name].flatten(2) for name in linearized.layout.names], 2)


def assert_pass_is_exact(linearized: Linearized, images: Tensor, *, whole: bool = False) -> None:
    """Jδ, Jᵀc and the pass agree with the dense Jacobian to rounding."""
    J = dense(linearized, images)
    base = linearized.outputs(images)
    delta = random(linearized.layout.size, seed=2)
    weights = random(*base.shape, seed=3)
    change = J @ delta
    close = {"rtol": 1e-9, "atol": 1e-10}
    outputs, _, gradient = linearized.product(images, delta, lambda f, d: (f + d) * weights)
    expected = torch.einsum("nc,ncp->p", (base + change) * weights, J)
    scale = 1 + float(expected.abs().max())
    torch.testing.assert_close(outputs, base + change, **close)
    torch.testing.assert_close(gradient / scale, expected / scale, **close)
    torch.testing.assert_close(linearized.jvp(images, delta), change, **close)
    pulled = torch.einsum("nc,ncp->p", weights, J)
    torch.testing.assert_close(linearized.vjp(images, weights), pulled, **close)
    assert linearized._walk.whole == whole
    # The same from a run that is kept, which another direction made.
    kept = Kept()
    linearized.jvp(images, random(linearized.layout.size, seed=4), kept)
    outputs, gradient = linearized.product(
        images, delta, lambda f, d: (f + d) * weights, None, kept
    )[::2]
    torch.testing.assert_close(outputs, base + change, **close)
    torch.testing.assert_close(gradient / scale, expected / scale, **close)
    torch.testing.assert_close(linearized.jvp(images, delta, kept), change, **close)
    torch.testing.assert_close(linearized.vjp(images, weights, kept=kept), pulled, **close)
    torch.testing.assert_close(linearized.vjp(images, weights, kept=Kept()), pulled, **close)
    if whole:
        assert kept.refusal == "the network is differentiated whole."
