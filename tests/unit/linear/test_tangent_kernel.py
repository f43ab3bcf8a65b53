"""The Gram matrix of a Jacobian that is not held is the one of a Jacobian that is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lqf.linear import Linearized, block_samples, tangent_kernel

CLASSES = 3


@pytest.fixture(scope="module")
def linearized() -> Linearized:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, CLASSES),
    )  # fmt: skip
    return Linearized(network.double())


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)


def memory(linearized: Linearized, samples: float) -> int:
    """Bytes for two blocks of so many samples."""
    return int(2 * samples * CLASSES * linearized.layout.size * 8)


@pytest.mark.parametrize("samples", [0.9, 1, 2, 3, 7, 100])
def test_gram_matrix_in_blocks_and_in_columns(samples: float, linearized: Linearized) -> None:
    x = images(7, 1)
    rows = linearized.jacobian(x).flatten(0, 1)
    assert block_samples(linearized, CLASSES, x, memory(linearized, samples)) == int(samples)
    done: list[int] = []

    gram = tangent_kernel(
        linearized, x, memory=memory(linearized, samples), progress=lambda: done.append(1)
    )

    torch.testing.assert_close(gram, rows @ rows.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gram, gram.T, rtol=0, atol=1e-12)
    assert len(done) == 7


@pytest.mark.parametrize("samples", [0.9, 2, 100])
def test_between_two_sets_of_samples(samples: float, linearized: Linearized) -> None:
    x, others = images(5, 1), images(4, 2)
    rows, columns = (linearized.jacobian(each).flatten(0, 1) for each in (x, others))

    cross = tangent_kernel(linearized, x, others, memory=memory(linearized, samples))

    torch.testing.assert_close(cross, rows @ columns.T, rtol=1e-10, atol=1e-12)
