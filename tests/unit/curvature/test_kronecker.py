import math

import pytest
import torch
from curvlinops import KFACLinearOperator
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import (
    C,
    N,
    NormNetwork,
    TokenNetwork,
    conv_network,
    dense_approximation,
    dense_block,
    dense_jacobian,
    dense_kronecker,
    dense_operator,
    images,
    seeded,
)
from torch import nn

from lqf.curvature import Preconditioner, kronecker_factors
from lqf.linear import Layout

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("approximation", ["expand", "reduce"])
@pytest.mark.parametrize("make", [conv_network, lambda: seeded(TokenNetwork())])
def test_blocks_equal_curvlinops(make, approximation):
    network, x = make(), images()
    factors = kronecker_factors(network, x, approximation=approximation, batch=4)
    ours = dense_approximation(factors, Layout.of(network.named_parameters()))
    theirs = dense_operator(KFACLinearOperator, network, x, approximation)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_a_linear_head_is_exact(approximation):
    network, x = conv_network(), images()
    block = kronecker_factors(network, x, approximation=approximation).blocks["5"]
    exact = dense_block(dense_jacobian(network, x), "5.weight", "5.bias")
    torch.testing.assert_close(dense_kronecker(block.A, block.B), exact, **CLOSE)
    torch.testing.assert_close(block.B[0], torch.eye(C, dtype=torch.float64), **CLOSE)


def test_a_deep_linear_network_is_exact_in_every_layer():
    # Its output Jacobians do not depend on the input, so input and gradient are independent.
    network = seeded(
        nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.Linear(5, 4, bias=False), nn.Linear(4, C))
    )
    x = images()
    rows = dense_jacobian(network, x)
    factors = kronecker_factors(network, x)
    for path, bias in (("1", "1.bias"), ("2", None), ("3", "3.bias")):
        block = factors.blocks[path]
        exact = dense_block(rows, f"{path}.weight", bias)
        torch.testing.assert_close(dense_kronecker(block.A, block.B), exact, **CLOSE)


def test_one_sample_without_weight_sharing_is_exact_for_one_output():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.Tanh(), nn.Linear(4, 1)))
    x = images(samples=1)
    rows = dense_jacobian(network, x)
    for path, block in kronecker_factors(network, x).blocks.items():
        exact = dense_block(rows, f"{path}.weight", f"{path}.bias")
        torch.testing.assert_close(dense_kronecker(block.A, block.B), exact, **CLOSE)


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_a_grouped_convolution_has_exact_blocks_where_positions_are_not_shared(groups, bias):
    # One output pixel: no weight sharing. The layers above are linear, so the gradients are
    # constant and every group's block is a Kronecker product.
    layer = nn.Conv2d(4, 8, 6, groups=groups, bias=bias)
    network = seeded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), layer, nn.Flatten()))
    network.append(seeded(nn.Linear(8, C)))
    x = images()
    block = kronecker_factors(network, x).blocks["2"]
    assert block.A.shape[0] == block.B.shape[0] == groups
    exact = dense_block(dense_jacobian(network, x), "2.weight", "2.bias" if bias else None, groups)
    torch.testing.assert_close(dense_kronecker(block.A, block.B), exact, **CLOSE)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding="same", dilation=2),
        nn.Conv2d(3, 4, 2, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, (1, 3), padding=(2, 1), padding_mode="circular", stride=(2, 1)),
        nn.Conv2d(3, 6, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1), groups=3),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_any_padding_stride_and_dilation(layer, approximation):
    # The block's patches and gradients must rebuild the layer's own gradient; then the factors
    # follow from their definition.
    x = images()
    size = layer.double()(x)[0].numel()
    network = seeded(nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(size, C)))
    block = kronecker_factors(network, x, approximation=approximation).blocks["0"]
    weight = layer.weight
    rows = []
    for row in range(weight[0].numel()):
        # A unit weight reads one entry of every patch.
        unit = torch.zeros_like(weight[:1]).flatten()
        unit[row] = 1.0
        parts = []
        channels = weight.shape[1]
        for g in range(layer.groups):
            probe = nn.Conv2d(
                channels,
                1,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                bias=False,
                padding_mode=layer.padding_mode,
            ).double()
            probe.weight.data.copy_(unit.reshape(1, *weight.shape[1:]))
            parts.append(probe(x[:, g * channels : (g + 1) * channels]).flatten(1))
        rows.append(torch.stack(parts, dim=1))
    patches = torch.stack([*rows, torch.ones_like(rows[0])], dim=2).detach()  # N × groups × d+1 × S
    if approximation == "reduce":
        patches = patches.mean(-1, keepdim=True)
    expected = torch.einsum("ngis,ngjs->gij", patches, patches) / (N * patches.shape[-1])
    torch.testing.assert_close(block.A, expected, **CLOSE)


def test_a_second_call_and_hooks_leave_the_network_as_it_was():
    network = seeded(NormNetwork()).train()
    network.batch_norm.eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    kronecker_factors(network, images())
    assert [module.training for module in network.modules()] == flags
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_other_parameters_get_the_diagonal_of_the_gauss_newton_matrix(caplog):
    network, x = seeded(NormNetwork()), images()
    with caplog.at_level("INFO", logger="lqf.curvature"):
        factors = kronecker_factors(network, x, batch=4)
    rows = dense_jacobian(network, x)
    assert set(factors.blocks) == {"conv", "head"}
    expected = {"scale"} | {
        f"{norm}_norm.{local}"
        for norm in ("batch", "group", "layer")
        for local in ("weight", "bias")
    }
    assert set(factors.diagonal) == expected
    for name, value in factors.diagonal.items():
        torch.testing.assert_close(value, rows[name].square().sum(1).mean(0), **CLOSE)
        assert any(name in message for message in caplog.messages)


def test_only_the_named_parameters_are_treated():
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x, ["2.weight", "5.bias"])
    whole = kronecker_factors(network, x)
    assert set(factors.blocks) == {"2", "5"}
    torch.testing.assert_close(factors.blocks["2"].B, whole.blocks["2"].B, **CLOSE)
    assert factors.blocks["5"].A.tolist() == [[[1.0]]]


def test_rademacher_probes_average_to_the_exact_factors():
    network, x = conv_network(), images()
    exact = kronecker_factors(network, x)
    errors = []
    for probes in (1, 400):
        drawn = kronecker_factors(network, x, probes=probes, seed=1)
        block = drawn.blocks["0"]
        torch.testing.assert_close(block.A, exact.blocks["0"].A, **CLOSE)
        errors.append(float((block.B - exact.blocks["0"].B).norm() / exact.blocks["0"].B.norm()))
    assert errors[1] < 0.1
    assert errors[1] < errors[0]


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, N + 1),
    order=st.permutations(range(N)),
    names=st.permutations([name for name, _ in conv_network().named_parameters()]),
    approximation=st.sampled_from(["expand", "reduce"]),
)
def test_batches_and_orders_do_not_matter(batch, order, names, approximation):
    network, x = conv_network(), images()
    one = kronecker_factors(network, x, approximation=approximation, batch=N)
    other = kronecker_factors(
        network, x[list(order)], names, approximation=approximation, batch=batch
    )
    for name, block in one.blocks.items():
        torch.testing.assert_close(other.blocks[name].A, block.A, **CLOSE)
        torch.testing.assert_close(other.blocks[name].B, block.B, **CLOSE)


@settings(max_examples=6, deadline=None)
@given(batch=st.integers(1, N), probes=st.integers(1, 3), seed=st.integers(0, 5))
def test_random_probes_do_not_depend_on_the_batches(batch, probes, seed):
    network, x = conv_network(), images()
    one = kronecker_factors(network, x, probes=probes, seed=seed)
    other = kronecker_factors(network, x, probes=probes, seed=seed, batch=batch)
    for name, block in one.blocks.items():
        torch.testing.assert_close(other.blocks[name].B, block.B, **CLOSE)


def test_scale_of_the_images_scales_the_first_input_factor():
    network, x = conv_network(), images()
    one = kronecker_factors(network, x, ["0.weight"]).blocks["0"]
    two = kronecker_factors(network, 2 * x, ["0.weight"]).blocks["0"]
    torch.testing.assert_close(two.A, 4 * one.A, **CLOSE)


def test_automatic_mixed_precision_is_switched_off():
    network, x = conv_network().float(), images().float()
    expected = kronecker_factors(network, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kronecker_factors(network, x)
    for name, block in expected.blocks.items():
        assert torch.equal(found.blocks[name].B, block.B)


def test_half_precision_is_accumulated_in_single():
    network, x = conv_network(), images()
    exact = kronecker_factors(network, x)
    half = kronecker_factors(conv_network().bfloat16(), x)
    for name, block in exact.blocks.items():
        found = half.blocks[name]
        assert found.A.dtype == found.B.dtype == torch.float32
        assert float((found.A - block.A).norm() / block.A.norm()) < 0.02
        assert float((found.B - block.B).norm() / block.B.norm()) < 0.02
    layout = Layout.of(network.named_parameters())
    vector = torch.ones(layout.size, dtype=torch.bfloat16)
    assert Preconditioner(half, layout, 0.1).apply(vector).dtype == torch.bfloat16


def test_a_nan_is_named_by_its_layer():
    network, x = conv_network(), images()
    network[2].weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"layer '2'"):
        kronecker_factors(network, x)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probes": 0}, "probes is 0"),
        ({"probes": "some"}, "probes is 'some'"),
        ({"approximation": "expnd"}, "approximation is 'expnd'"),
        ({"batch": 0}, "batch is 0"),
        ({"names": ["9.weight"]}, "no parameter '9.weight'"),
        ({"names": []}, "names is empty"),
        ({"images": torch.zeros(2, 3, 6, 6, dtype=torch.uint8)}, "dtype torch.uint8"),
        ({"images": torch.zeros(0, 3, 6, 6)}, "images is empty"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"images": images(), "names": None, **change}
    with pytest.raises(ValueError, match=message):
        kronecker_factors(conv_network(), **arguments)


def test_progress_counts_images():
    seen = []
    kronecker_factors(
        conv_network(),
        images(),
        batch=4,
        progress=lambda done, total, note: seen.append((done, total)),
    )
    assert seen == [(4, N), (N, N)]
