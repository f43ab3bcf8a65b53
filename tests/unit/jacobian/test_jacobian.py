"""All representations of a Jacobian agree with the materialised one."""

import pytest
import torch
from dense_networks import dense, random, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lqf.jacobian import (
    DenseJacobian,
    FeatureJacobian,
    Layout,
    Linearized,
    NetworkJacobian,
    RowSpace,
)

N, C, P = 5, 3, 7


def agree(jacobian, matrix, index=None) -> None:
    rows = matrix if index is None else matrix[index]
    delta, c = random(matrix.shape[2], seed=4), random(*rows.shape[:2], seed=5)
    torch.testing.assert_close(jacobian.forward(delta, index), rows @ delta)
    torch.testing.assert_close(jacobian.pull(c, index), torch.einsum("nc,ncp->p", c, rows))
    change, product = jacobian.pass_(delta, lambda f, places: f * c[places], index)
    torch.testing.assert_close(change, rows @ delta)
    torch.testing.assert_close(product, torch.einsum("nc,ncp->p", rows @ delta * c, rows))
    assert (jacobian.samples, jacobian.outputs, jacobian.size) == tuple(matrix.shape)


@given(index=st.none() | st.lists(st.integers(0, N - 1), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_dense_rows_in_any_order_and_number(index) -> None:
    matrix = random(N, C, P)
    agree(
        DenseJacobian(matrix, random(N, C)),
        matrix,
        None if index is None else torch.tensor(index),
    )


def test_gram() -> None:
    matrix = random(N, C, P)
    jacobian = DenseJacobian(matrix, random(N, C))
    flat = matrix.reshape(-1, P)
    torch.testing.assert_close(jacobian.gram(), flat @ flat.T)


@pytest.mark.parametrize("dependent", [False, True])
def test_row_space(dependent) -> None:
    matrix = random(N, C, 40)
    if dependent:
        matrix[3] = 2 * matrix[1]
        matrix[4] = matrix[0] - matrix[2]
    original = DenseJacobian(matrix, random(N, C))
    space = RowSpace(original)
    rotated = space.jacobian
    assert rotated.size == (9 if dependent else 15)
    torch.testing.assert_close(rotated.gram(), original.gram())
    z = random(rotated.size, seed=6)
    delta = space.lift(z)
    torch.testing.assert_close(original.forward(delta), rotated.forward(z))
    torch.testing.assert_close(delta.norm(), z.norm())  # the basis is orthonormal


def test_head() -> None:
    features = random(N, 4)
    linearized = Linearized(seeded(nn.Linear(4, C)))
    head = FeatureJacobian(features, linearized.outputs(features))
    matrix = dense(linearized, features)
    agree(head, matrix)
    agree(head, matrix, torch.tensor([2, 2, 0]))


@pytest.mark.parametrize("batch", [2, 64])
def test_network(batch) -> None:
    network = seeded(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, C)))
    images = random(N, 3, 4, 4)
    linearized = Linearized(network)
    jacobian = NetworkJacobian(linearized, images, batch)
    matrix = dense(linearized, images)
    agree(jacobian, matrix)
    index = torch.tensor([4, 1, 1])
    agree(jacobian, matrix, index)


def test_a_layout_splits_and_refuses_other_sizes() -> None:
    layout = Layout.of([("a", random(2, 3)), ("b", random()), ("c", random(4))])
    vector = random(11)
    assert layout.size == 11
    assert {n: tuple(t.shape) for n, t in layout.split(vector).items()} == {
        "a": (2, 3),
        "b": (),
        "c": (4,),
    }
    torch.testing.assert_close(
        torch.cat([part.reshape(-1) for part in layout.split(vector).values()]), vector
    )
    with pytest.raises(ValueError, match=r"\(10,\).*\(11,\)"):
        layout.split(vector[:10])
