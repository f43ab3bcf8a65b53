"""Properties that hold for every split of the data, order of the samples, α and μ."""

import torch
from dense_networks import random, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lqf.jacobian import Linearized, NetworkJacobian
from lqf.ridge import DenseRidge

N, C = 6, 3
IMAGES = random(N, 3, 4, 4)


def network() -> nn.Module:
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, C)
        )
    )


@given(batch=st.integers(1, N + 1), order=st.permutations(range(N)))
@settings(max_examples=8, deadline=None)
def test_neither_batches_nor_the_order_of_samples_matter(batch, order) -> None:
    linearized, index = Linearized(network()), torch.tensor(order)
    whole = NetworkJacobian(linearized, IMAGES, N)
    other = NetworkJacobian(linearized, IMAGES[index], batch)
    delta, weights = random(whole.size, seed=3), random(N, C, seed=4)
    change, product = whole.pass_(delta, lambda f, rows: f * weights[rows])
    own = weights[index]
    moved, again = other.pass_(delta, lambda f, rows: f * own[rows])
    torch.testing.assert_close(moved, change[index])
    torch.testing.assert_close(again, product)


@given(mu=st.floats(1e-3, 1e3), alpha=st.floats(0.5, 100.0), beta=st.floats(0.5, 100.0))
@settings(max_examples=25, deadline=None)
def test_the_scale_of_the_targets(mu, alpha, beta) -> None:
    """f = f0 + S(αY − f0): affine in α, and only a scale where f0 is 0 (paper.md, 0.4)."""
    rows = random(N * C, 10, seed=6)
    K = rows @ rows.T
    Y = torch.eye(C, dtype=torch.float64)[torch.arange(N) % C]
    f0 = random(N, C, seed=7)

    def outputs(scale: float, base: torch.Tensor) -> torch.Tensor:
        a = DenseRidge(K, scale * Y - base, mu).coefficients
        return base + (K @ a.reshape(-1)).reshape(N, C)

    middle = (outputs(alpha, f0) + outputs(beta, f0)) / 2
    torch.testing.assert_close(outputs((alpha + beta) / 2, f0), middle)
    zero = torch.zeros_like(f0)
    torch.testing.assert_close(outputs(alpha, zero) / alpha, outputs(beta, zero) / beta)


def test_limits_of_the_ridge_constant() -> None:
    jacobian = NetworkJacobian(Linearized(network()), IMAGES)
    target = random(N, C, seed=5)
    K = torch.stack(
        [
            jacobian.forward(jacobian.pull(e.reshape(N, C))).reshape(-1)
            for e in torch.eye(N * C).double()
        ]
    )
    stays = jacobian.pull(DenseRidge(K, target, 1e12).coefficients)
    assert float(jacobian.forward(stays).abs().max()) < 1e-8
    fits = jacobian.forward(jacobian.pull(DenseRidge(K, target, 1e-9).coefficients))
    torch.testing.assert_close(fits, target, rtol=1e-4, atol=1e-5)
