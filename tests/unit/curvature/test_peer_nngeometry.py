"""K-FAC and EKFAC blocks beside nngeometry's, which has code and conventions of its own.

Its factors are A·S√C and B/(S√C) of ours, with S positions and C outputs; the product is the same.
"""

import pytest
import torch
from tiny_networks import C, dense_kronecker, images, seeded
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lqf.curvature import eigenvalue_correction, kronecker_factors
from lqf.curvature.probes import Probes

pytest.importorskip("nngeometry", reason="nngeometry is not installed: pip install lqf[peers]")
from nngeometry.metrics import FIM
from nngeometry.object import PMatEKFAC, PMatKFAC

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def network():
    # It takes neither groups nor tokens.
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, stride=2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(4, 5, 2, dilation=2, padding=1, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(5 * 3 * 3, 6),
            nn.Tanh(),
            nn.Linear(6, C),
        )
    )


def theirs(kind, model, x, signs=None):
    """Their matrix, from all outputs or from the products of the outputs with given signs."""
    sets = TensorDataset(x) if signs is None else TensorDataset(x, signs)
    loader = DataLoader(sets, batch_size=7)

    def function(*batch):
        outputs = model(batch[0])
        return outputs if signs is None else (outputs * batch[1]).sum(1, keepdim=True)

    matrix = FIM(model, loader, kind, variant="regression", function=function)
    return matrix, loader


def by_layer(matrix, data):
    """Its layers under our names."""
    names = {module: name for name, module in matrix.generator.model.named_modules()}
    return {names[matrix.generator.l_to_m[key]]: value for key, value in data.items()}


@pytest.mark.parametrize("probes", ["all", 1])
def test_kfac_blocks_equal_nngeometry(probes):
    model, x = network(), images(samples=20)
    ours = kronecker_factors(model, x, probes=probes, seed=3, batch=6)
    drawn = Probes(len(x), C, probes, 3).draw()
    signs = None if drawn is None else drawn[0].double()
    matrix, _ = theirs(PMatKFAC, model, x, signs)
    found = by_layer(matrix, matrix.data)
    assert found.keys() == ours.blocks.keys()
    for path, block in ours.blocks.items():
        a, g = found[path]
        expected = dense_kronecker(a[None], g[None])
        torch.testing.assert_close(dense_kronecker(block.A, block.B), expected, **CLOSE)


def test_ekfac_blocks_equal_nngeometry():
    # Enough images that no eigenvalue of a factor repeats, where any basis would do.
    model, x = network(), images(samples=60)
    ours = kronecker_factors(model, x)
    correction = eigenvalue_correction(model, x, ours, batch=16)
    matrix, loader = theirs(PMatEKFAC, model, x)
    matrix.update_diag(loader)
    bases, diagonals = (by_layer(matrix, part) for part in matrix.data)
    for path in ours.blocks:
        a, g = bases[path]
        Q = torch.kron(g, a)
        expected = Q @ torch.diag(diagonals[path].flatten()) @ Q.T
        basis = ours.basis(path)
        Q = torch.kron(basis.B[0], basis.A[0])
        found = Q @ torch.diag(correction[path].flatten()) @ Q.T
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
