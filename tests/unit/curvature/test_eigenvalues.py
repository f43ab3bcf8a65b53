import pytest
import torch
from curvlinops import EKFACLinearOperator
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import (
    C,
    N,
    TokenNetwork,
    conv_network,
    dense_approximation,
    dense_block,
    dense_jacobian,
    dense_operator,
    images,
    seeded,
)
from torch import nn

from lqf.curvature import eigenvalue_correction, kronecker_factors
from lqf.linear import Layout

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.mark.parametrize("approximation", ["expand", "reduce"])
@pytest.mark.parametrize("make", [conv_network, lambda: seeded(TokenNetwork())])
def test_blocks_equal_curvlinops(make, approximation):
    # Enough images that no eigenvalue of a factor repeats, where any basis would do.
    network, x = make(), images(samples=40)
    factors = kronecker_factors(network, x, approximation=approximation)
    correction = eigenvalue_correction(network, x, factors, batch=16)
    blocks = {}
    for path in factors.blocks:
        basis = factors.basis(path)
        Q = torch.kron(basis.B[0], basis.A[0])
        blocks[path] = (Q @ torch.diag(correction[path].flatten()) @ Q.T)[None]
    ours = dense_approximation(factors, Layout.of(network.named_parameters()), blocks)
    theirs = dense_operator(EKFACLinearOperator, network, x, approximation)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 50),
    batch=st.integers(1, N),
    approximation=st.sampled_from(["expand", "reduce"]),
)
def test_the_trace_of_every_exact_block_is_kept(seed, batch, approximation):
    network, x = seeded(conv_network(), seed), images(seed)
    factors = kronecker_factors(network, x, approximation=approximation)
    correction = eigenvalue_correction(network, x, factors, batch=batch)
    rows = dense_jacobian(network, x)
    for path, block in factors.blocks.items():
        exact = dense_block(rows, block.weight, block.bias)
        torch.testing.assert_close(
            correction[path].sum(), exact.diagonal(dim1=1, dim2=2).sum(), **CLOSE
        )
        assert bool((correction[path] >= 0).all())


def test_it_is_the_best_diagonal_in_the_kronecker_basis():
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x)
    correction = eigenvalue_correction(network, x, factors)
    rows = dense_jacobian(network, x)
    for path, block in factors.blocks.items():
        exact = dense_block(rows, block.weight, block.bias)[0]
        basis = factors.basis(path)
        Q = torch.kron(basis.B[0], basis.A[0])
        torch.testing.assert_close(
            correction[path].flatten(), (Q.T @ exact @ Q).diagonal(), **CLOSE
        )


def test_it_changes_nothing_where_the_kronecker_product_is_exact():
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x)
    basis = factors.basis("5")
    correction = eigenvalue_correction(network, x, factors)
    torch.testing.assert_close(correction["5"], basis.b[:, :, None] * basis.a[:, None], **CLOSE)


def test_grouped_convolutions_keep_the_trace():
    layer = nn.Conv2d(4, 8, 3, groups=4)
    network = seeded(nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.Flatten(), nn.Linear(128, C)))
    x = images()
    factors = kronecker_factors(network, x)
    correction = eigenvalue_correction(network, x, factors)
    exact = dense_block(dense_jacobian(network, x), "1.weight", "1.bias", groups=4)
    torch.testing.assert_close(
        correction["1"].sum((1, 2)), exact.diagonal(dim1=1, dim2=2).sum(1), **CLOSE
    )


@pytest.mark.parametrize("chunk", [1, 500, 1 << 24])
def test_the_memory_at_hand_does_not_matter(monkeypatch, chunk):
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x)
    expected = eigenvalue_correction(network, x, factors)
    monkeypatch.setattr("lqf.curvature.eigenvalues._CHUNK", chunk)
    monkeypatch.setattr("lqf.curvature.moments._CHUNK", chunk)
    for path, value in eigenvalue_correction(network, x, factors).items():
        torch.testing.assert_close(value, expected[path], **CLOSE)
    for path, block in kronecker_factors(network, x).blocks.items():
        torch.testing.assert_close(block.A, factors.blocks[path].A, **CLOSE)


def test_other_weights_or_images_are_refused():
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x)
    with pytest.raises(ValueError, match="images are not those"):
        eigenvalue_correction(network, x.flip(0), factors)
    network[0].weight.data.mul_(2)
    with pytest.raises(ValueError, match="weights are not those"):
        eigenvalue_correction(network, x, factors)
