import logging

import pytest
import torch
from tiny_networks import C, conv_network, dense_jacobian, images, seeded
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from lqf.curvature import kronecker_factors


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(108, C)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))).flatten(1))


class Outside(Twice):
    """Uses the weight of a layer once in the layer and once beside it."""

    def forward(self, x):
        x = functional.conv2d(self.layer(x), self.layer.weight, padding=1)
        return self.head(x.flatten(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(108, 108), nn.Linear(108, 108)
        self.two.weight = self.one.weight
        self.head = nn.Linear(108, C)

    def forward(self, x):
        return self.head(self.two(torch.tanh(self.one(x.flatten(1)))))


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x) + functional.linear(x.square(), self.weight)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.spare = nn.Linear(108, C), nn.Linear(108, C)

    def forward(self, x):
        return self.head(x.flatten(1))


class ChangesInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 1), nn.Linear(108, C)

    def forward(self, x):
        x = x.clone()
        y = self.layer(x)
        x.mul_(2)
        return self.head(y.flatten(1))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Twice(), "'layer' runs 2 times"),
        (Tied(), "'one.weight' is shared"),
        (Outside(), "'layer.weight' is used outside"),
        (nn.Sequential(nn.Flatten(), Scaled(108, C)), "'1.weight' is used outside"),
        (Unused(), "'spare.weight' does not influence"),
    ],
)
def test_a_network_whose_blocks_would_be_wrong_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        kronecker_factors(seeded(network), images())
    assert not any(module._forward_hooks for module in network.modules())


def test_an_input_changed_in_place_is_refused():
    with pytest.raises(ValueError, match="input of layer 'layer' is changed in place"):
        kronecker_factors(seeded(ChangesInput()), images())


def test_a_module_that_runs_twice_may_be_left_untrained():
    factors = kronecker_factors(seeded(Twice()), images(), ["head.weight", "head.bias"])
    assert set(factors.blocks) == {"head"}


def test_a_layer_that_changes_its_forward_linearly_is_seen():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="its module's forward is not the layer's own"):
        kronecker_factors(seeded(nn.Sequential(nn.Flatten(), Doubled(108, C))), images())


class Centred(nn.Module):
    """A convolution whose bias is taken out again."""

    def forward(self, x):
        return (x - x.mean((2, 3), keepdim=True)).square().mean((2, 3))


def test_a_bias_whose_gradient_is_nothing_but_rounding_is_no_error():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), Centred(), nn.Linear(8, C))
    assert set(kronecker_factors(network, torch.rand(4, 3, 9, 9)).blocks) == {"0", "2"}


def test_one_dimensional_and_transposed_convolutions_get_diagonal_blocks():
    network = seeded(
        nn.Sequential(
            nn.ConvTranspose2d(3, 2, 2),
            nn.Flatten(2),
            nn.Conv1d(2, 2, 3),
            nn.PReLU(),
            nn.Flatten(),
            nn.Linear(94, C),
        )
    )
    factors = kronecker_factors(network, images())
    assert set(factors.blocks) == {"5"}
    assert set(factors.diagonal) == {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight"}


def test_attention_and_tokens_get_diagonal_blocks():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.embed = nn.Linear(3, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, C)

        def forward(self, x):
            tokens = self.embed(x.flatten(2).mT)
            tokens = torch.cat([self.token.expand(len(x), 1, 4), tokens], dim=1)
            return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])

    network, x = seeded(Attention()), images()
    factors = kronecker_factors(network, x)
    rows = dense_jacobian(network, x)
    assert set(factors.blocks) == {"embed", "head"}
    for name, value in factors.diagonal.items():
        torch.testing.assert_close(value, rows[name].square().sum(1).mean(0), rtol=1e-9, atol=1e-12)
    assert "attention.out_proj.weight" in factors.diagonal


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_parametrised_layer_gets_a_diagonal_block():
    network = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(108, C)))
    factors = kronecker_factors(network.double(), images())
    assert len(factors.diagonal) == 2
    assert factors.blocks["1"].weight is None


def test_outputs_that_are_no_matrix_are_refused():
    with pytest.raises(ValueError, match="b × C is needed"):
        kronecker_factors(nn.Conv2d(3, 3, 1).double(), images())


def test_an_exception_inside_the_network_leaves_no_hook():
    class Raises(nn.Module):
        def forward(self, x):
            raise KeyError("inside")

    network = conv_network().train()
    network.append(Raises())
    with pytest.raises(KeyError, match="inside"):
        kronecker_factors(network, images())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(module.training for module in network.modules())


class Counts(nn.Module):
    """Two names for one module, a buffer bound anew in every call, and an exception in one."""

    def __init__(self, fails_in):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(1, 3))
        self.alias = self.inner[0]
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.head = nn.Linear(108, C)
        self.calls, self.fails_in = 0, fails_in

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3)).reshape(3, 1, 1).detach()
        x = self.inner(x)
        if self.calls == self.fails_in:
            raise KeyError("inside")
        return self.head(x.flatten(1))


@pytest.mark.parametrize("fails_in", [None, 1, 2])
def test_no_substitute_hook_mode_or_statistic_is_left_behind(fails_in):
    network = seeded(Counts(fails_in)).train()
    network.head.eval()
    before = dict(network.named_parameters(remove_duplicate=False))
    buffers = dict(network.named_buffers())
    values = {n: t.clone() for n, t in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    if fails_in is None:
        factors = kronecker_factors(network, images())
        assert set(factors.diagonal) == {"inner.1.weight", "inner.1.bias"}
    else:
        with pytest.raises(KeyError, match="inside"):
            kronecker_factors(network, images())
    after = dict(network.named_parameters(remove_duplicate=False))
    assert all(after[n] is p for n, p in before.items())
    assert all(dict(network.named_buffers())[n] is b for n, b in buffers.items())
    assert network.alias.weight is network.inner[0].weight
    assert isinstance(network.alias.weight, nn.Parameter)
    assert all(torch.equal(t, values[n]) for n, t in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())


def test_an_exception_in_a_module_with_a_diagonal_block_leaves_nothing_behind():
    class Norm(nn.GroupNorm):
        calls = 0

        def forward(self, x):
            Norm.calls += 1
            if Norm.calls > 1:  # the call of this module alone, inside vmap
                raise KeyError("inside")
            return super().forward(x)

    network = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), Norm(2, 4), nn.Flatten(), nn.Linear(64, C)))
    before = dict(network.named_parameters())
    with pytest.raises(KeyError, match="inside"):
        kronecker_factors(network, images())
    assert all(p is before[n] for n, p in network.named_parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layer", "kronecker"),
    [
        (nn.Conv2d(4, 4, 3, groups=2, padding=1), True),
        (nn.Conv2d(4, 4, 3, groups=4, padding=2, dilation=2), True),
        (nn.Conv2d(4, 4, 1), True),
        (nn.GroupNorm(2, 4), False),
        (nn.LayerNorm([4, 6, 6]), False),
        (nn.BatchNorm2d(4), False),
        (nn.InstanceNorm2d(4, affine=True), False),
        (nn.PReLU(4), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_layer_has_a_kronecker_block_or_an_announced_diagonal_one(layer, kronecker, caplog):
    network = seeded(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Flatten(), nn.Linear(144, C))
    )
    with caplog.at_level(logging.INFO):
        factors = kronecker_factors(network, images())
    assert ("1" in factors.blocks) == kronecker
    assert any(name.startswith("1.") for name in factors.diagonal) != kronecker
    assert ("diagonal block" in caplog.text) != kronecker
    rows = dense_jacobian(network, images())
    for name, value in factors.diagonal.items():
        torch.testing.assert_close(value, rows[name].square().sum(1).mean(0))
