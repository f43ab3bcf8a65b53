import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import (
    C,
    NormNetwork,
    TokenNetwork,
    conv_network,
    dense_approximation,
    dense_jacobian,
    images,
    seeded,
)
from torch import nn

from lqf.curvature import Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.linear import Layout

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def eye(size):
    return torch.eye(size, dtype=torch.float64)


def dense(preconditioner, size):
    return preconditioner.apply(eye(size))


@pytest.mark.parametrize(
    "make", [conv_network, lambda: seeded(TokenNetwork()), lambda: seeded(NormNetwork())]
)
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_it_is_the_inverse_of_the_damped_approximation(make, damping):
    network, x = make(), images()
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, x)
    P = dense(Preconditioner(factors, layout, damping), layout.size)
    matrix = dense_approximation(factors, layout) + damping * eye(layout.size)
    identity = eye(layout.size)
    torch.testing.assert_close(P @ matrix, identity, rtol=0, atol=1e-9)


def test_a_grouped_convolution_is_inverted_group_by_group():
    network = seeded(
        nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.Flatten(), nn.Linear(216, C))
    )
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, images())
    P = dense(Preconditioner(factors, layout, 0.1), layout.size)
    matrix = dense_approximation(factors, layout) + 0.1 * eye(layout.size)
    torch.testing.assert_close(P @ matrix, eye(layout.size), rtol=0, atol=1e-9)


def test_for_a_linear_head_it_is_the_exact_inverse():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(108, C)))
    x = images()
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, x)
    rows = dense_jacobian(network, x)
    J = torch.cat([rows[name].flatten(2) for name in layout.names], 2).flatten(0, 1)
    H = J.T @ J / len(x) + 1e-2 * eye(layout.size)
    P = dense(Preconditioner(factors, layout, 1e-2), layout.size)
    torch.testing.assert_close(P, torch.linalg.inv(H), rtol=1e-8, atol=1e-9)


def test_pi_damping_is_the_product_of_two_damped_factors():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.Tanh(), nn.Linear(4, C)))
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, images())
    damping = 0.03
    P = dense(Preconditioner(factors, layout, damping, variant="pi"), layout.size)
    offset = 0
    for path in ("1", "3"):
        A, B = factors.blocks[path].A[0], factors.blocks[path].B[0]
        pi = ((A.trace() / len(A)) / (B.trace() / len(B))).sqrt()
        A = A + pi * damping**0.5 * eye(len(A))
        B = B + damping**0.5 / pi * eye(len(B))
        o, d = len(B), len(A) - 1
        inverse = torch.linalg.inv(torch.kron(B, A)).reshape(o, d + 1, o, d + 1)
        weight = slice(offset, offset + o * d)
        expected = inverse[:, :d, :, :d].reshape(o * d, o * d)
        torch.testing.assert_close(P[weight, weight], expected, **CLOSE)
        offset += o * (d + 1)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 20),
    damping=st.sampled_from([1e-6, 1e-3, 1.0]),
    kind=st.sampled_from(["eigen", "pi", "ekfac"]),
)
def test_it_is_symmetric_and_positive_definite(seed, damping, kind):
    network, x = seeded(NormNetwork(), seed), images(seed)
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, x)
    correction = eigenvalue_correction(network, x, factors) if kind == "ekfac" else None
    P = Preconditioner(
        factors, layout, damping, correction, variant="pi" if kind == "pi" else "eigen"
    )
    matrix = dense(P, layout.size)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-8, atol=1e-8 / damping)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert float(values[0]) > 0
    # the damping bounds P from above
    assert float(values[-1]) <= (1 + 1e-6) / damping


def test_the_order_of_the_parameters_does_not_matter():
    network, x = conv_network(), images()
    layout = Layout.of(network.named_parameters())
    turned = Layout(layout.names[::-1], layout.shapes[::-1])
    factors = kronecker_factors(network, x)
    vector = torch.randn(layout.size, dtype=torch.float64)
    one = layout.split(Preconditioner(factors, layout, 0.1).apply(vector))
    other = Preconditioner(factors, turned, 0.1).apply(turned.join(layout.split(vector)))
    for name, value in turned.split(other).items():
        torch.testing.assert_close(value, one[name])


def test_large_damping_is_a_scaled_identity():
    network = conv_network()
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, images())
    vector = torch.randn(layout.size, dtype=torch.float64)
    result = Preconditioner(factors, layout, 1e12).apply(vector)
    torch.testing.assert_close(result * 1e12, vector, rtol=1e-6, atol=1e-9)


def test_leading_dimensions_are_a_batch():
    network = seeded(NormNetwork())
    layout = Layout.of(network.named_parameters())
    P = Preconditioner(kronecker_factors(network, images()), layout, 0.1)
    vectors = torch.randn(2, 3, layout.size, dtype=torch.float64)
    torch.testing.assert_close(P.apply(vectors)[1, 2], P.apply(vectors[1, 2]))


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_a_damping_without_an_inverse_is_refused(damping):
    network = conv_network()
    factors = kronecker_factors(network, images())
    with pytest.raises(ValueError, match="damping is"):
        Preconditioner(factors, Layout.of(network.named_parameters()), damping)


def test_wrong_arguments_are_named():
    network, x = conv_network(), images()
    layout = Layout.of(network.named_parameters())
    factors = kronecker_factors(network, x)
    with pytest.raises(ValueError, match=r"\(3,\); its last dimension"):
        Preconditioner(factors, layout, 0.1).apply(torch.zeros(3))
    with pytest.raises(ValueError, match="variant is 'ei'"):
        Preconditioner(factors, layout, 0.1, variant="ei")
    with pytest.raises(ValueError, match="corrected eigenvalues"):
        Preconditioner(factors, layout, 0.1, {}, variant="pi")
    with pytest.raises(ValueError, match="no entry for layer '0'"):
        Preconditioner(factors, layout, 0.1, {})
    with pytest.raises(ValueError, match=r"disagree about parameter '2\.weight'"):
        Preconditioner(
            kronecker_factors(network, x, [n for n in layout.names if n[0] != "2"]), layout, 0.1
        )
