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
