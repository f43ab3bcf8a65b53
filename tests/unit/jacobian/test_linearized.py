"""Whole networks, the materialised Jacobian, and that a network is left as it was found."""

import pytest
import torch
from dense_networks import assert_pass_is_exact, random, seeded
from torch import nn

from lqf.jacobian import Linearized
from lqf.jacobian.modes import differentiable
from lqf.networks import build, fold_batch_norm


def small(activation: nn.Module | None = None) -> nn.Module:
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 4, 1, stride=2),
            nn.BatchNorm2d(4),
            activation or nn.ReLU(inplace=True),
            nn.Conv2d(4, 3, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Flatten(),
            nn.Linear(27, 3),
        )
    )


def agrees_with_torch(network: nn.Module, images: torch.Tensor) -> None:
    """J δ and Jᵀ c against torch's own modes; a dense J would be too large."""
    linearized = Linearized(network)
    weights = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}
    delta = random(linearized.layout.size)
    outputs, _, gradient = linearized.product(images, delta, lambda f, d: f + d)
    assert not linearized._walk.whole

    def call(w):
        return torch.func.functional_call(network, w, (images,))

    fixed = {name: w.detach() for name, w in weights.items()}
    with differentiable(images.device):
        base, change = torch.func.jvp(call, (fixed,), (linearized.layout.split(delta),))
        primal = call(weights)
    close = {"rtol": 1e-9, "atol": 1e-9 * float(change.abs().max())}
    torch.testing.assert_close(outputs, base + change, **close)
    torch.testing.assert_close(linearized.jvp(images, delta), change, **close)
    expected = torch.autograd.grad(primal, list(weights.values()), outputs)
    expected = torch.cat([g.reshape(-1) for g in expected])
    assert float((gradient - expected).norm() / expected.norm()) < 1e-10
    # ⟨Jδ, c⟩ = ⟨δ, Jᵀc⟩ binds the tangents to the gradients, to rounding.
    torch.testing.assert_close((change * outputs).sum(), gradient @ delta, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("pooling", ["average", "covariance"])
def test_the_demo_network(folded, pooling) -> None:
    network = build("demo_resnet", 3, pooling=pooling, activation="leaky_relu").double().eval()
    network = fold_batch_norm(network) if folded else network
    agrees_with_torch(network, random(2, 3, 16, 16))


def test_modes_parameters_and_hooks_are_as_before_after_an_exception() -> None:
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError("deep inside")

    network = small(Failing())
    network.train()
    network[3].eval()
    modes = [m.training for m in network.modules()]
    before = {n: (id(t), t.clone()) for n, t in network.state_dict(keep_vars=True).items()}
    linearized, images = Linearized(network), random(2, 3, 6, 6)
    for action in (
        lambda: linearized.outputs(images),
        lambda: linearized.jvp(images, random(linearized.layout.size)),
        lambda: linearized.vjp(images, random(2, 3)),
        lambda: linearized.product(images, random(linearized.layout.size), lambda f, d: f),
    ):
        with pytest.raises(KeyError, match="deep inside"):
            action()
    assert [m.training for m in network.modules()] == modes
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])
    assert not any(m._forward_hooks for m in network.modules())


def test_a_module_under_two_names_keeps_its_parameters() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    network = seeded(nn.Sequential(shared, nn.Tanh(), shared, nn.Flatten(), nn.Linear(108, 3)))
    linearized = Linearized(network)
    assert_pass_is_exact(linearized, random(2, 3, 6, 6))
    assert all(type(p) is nn.Parameter for p in network.parameters())


def test_train_mode_uses_the_statistics_at_w0() -> None:
    network, images = small(nn.Dropout(0.5)), random(3, 3, 6, 6)
    expected = network(images).detach()
    network.train()
    torch.testing.assert_close(Linearized(network).outputs(images), expected)
    assert network.training


def test_gradients_can_be_added_to_a_vector() -> None:
    linearized, images = Linearized(small()), random(3, 3, 6, 6)
    c, total = random(3, 3), torch.ones(linearized.layout.size, dtype=torch.float64)
    assert linearized.vjp(images, c, out=total) is total
    torch.testing.assert_close(total - 1, linearized.vjp(images, c))


def test_what_is_refused() -> None:
    network, images = small(), random(2, 3, 6, 6)
    linearized = Linearized(network)
    delta = random(linearized.layout.size)
    with pytest.raises(ValueError, match=r"float16.*float64"):
        linearized.jvp(images.half(), delta)
    with pytest.raises(ValueError, match=r"cotangent has shape \(2, 2\)"):
        linearized.vjp(images, random(2, 2))
    with pytest.raises(ValueError, match=r"'7\.weight' is not a parameter"):
        Linearized(network, ["7.weight"])
    with pytest.raises(ValueError, match="no parameter"):
        Linearized(network, [])
