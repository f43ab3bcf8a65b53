import pytest
import torch
from tiny_networks import (
    C,
    conv_network,
    dense_approximation,
    dense_block,
    dense_jacobian,
    images,
    seeded,
)
from torch import nn

from lqf.curvature import (
    KroneckerFactors,
    Preconditioner,
    Provenance,
    eigenvalue_correction,
    kronecker_factors,
)
from lqf.curvature import eigenbasis as eigenbasis_module
from lqf.curvature.eigenbasis import decompose, decompose_root
from lqf.curvature.moments import second_moment
from lqf.linear import Layout

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def thin(monkeypatch):
    # Every A with few rows is kept as rows, as only large ones are otherwise.
    monkeypatch.setattr(eigenbasis_module, "_SMALL", 0)


def grouped_network():
    return seeded(
        nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=3),
            nn.Tanh(),
            nn.Conv2d(6, 6, 2, dilation=1, groups=3),
            nn.Flatten(),
            nn.Linear(6, C),
        )
    )


def grouped_images():
    return torch.cat([images(), images(1)[:, :1]], dim=1)[:3]


@pytest.mark.parametrize("variant", ["eigen", "pi"])
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_a_thin_basis_preconditions_as_the_whole_one(monkeypatch, approximation, variant):
    cases = [(conv_network(), images(samples=3)), (grouped_network(), grouped_images())]
    for network, x in cases:
        layout = Layout.of(network.named_parameters())
        whole = kronecker_factors(network, x, approximation=approximation)
        with monkeypatch.context() as patch:
            patch.setattr(eigenbasis_module, "_SMALL", 0)
            few = kronecker_factors(network, x, approximation=approximation, batch=2)
        assert any(block.root for block in few.blocks.values())
        for path, block in whole.blocks.items():
            torch.testing.assert_close(few.blocks[path].A, block.A, **CLOSE)
            assert few.basis(path).thin == few.blocks[path].root
            assert not whole.basis(path).thin
        identity = torch.eye(layout.size, dtype=torch.float64)
        expected = Preconditioner(whole, layout, 1e-2, variant=variant).apply(identity)
        found = Preconditioner(few, layout, 1e-2, variant=variant).apply(identity)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("thin")
def test_a_thin_basis_has_all_of_the_corrected_eigenvalues():
    network, x = conv_network(), images(samples=3)
    factors = kronecker_factors(network, x)
    correction = eigenvalue_correction(network, x, factors)
    rows = dense_jacobian(network, x)
    blocks = {}
    for path, block in factors.blocks.items():
        exact = dense_block(rows, block.weight, block.bias)[0]
        basis = factors.basis(path)
        torch.testing.assert_close(correction[path].sum(), exact.trace(), **CLOSE)
        Q = torch.kron(basis.B[0], basis.A[0].contiguous())
        best = (Q.T @ exact @ Q).diagonal()
        torch.testing.assert_close(correction[path].flatten(), best, **CLOSE)
        blocks[path] = (Q @ torch.diag(correction[path].flatten()) @ Q.T)[None]
    layout = Layout.of(network.named_parameters())
    P = Preconditioner(factors, layout, 0.1, correction)
    matrix = dense_approximation(factors, layout, blocks)
    identity = torch.eye(layout.size, dtype=torch.float64)
    found = P.apply(matrix + 0.1 * identity)
    torch.testing.assert_close(found, identity, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("thin")
def test_rows_survive_a_file(tmp_path):
    network, x = conv_network(), images(samples=3)
    factors = kronecker_factors(network, x)
    layout = Layout.of(network.named_parameters())
    Preconditioner(factors, layout, 0.1)
    factors.save(tmp_path / "factors.safetensors")
    found = KroneckerFactors.load(
        tmp_path / "factors.safetensors", Provenance.of(network, x, layout.names)
    )
    assert [block.root for block in found.blocks.values()] == [
        block.root for block in factors.blocks.values()
    ]
    for path, block in factors.blocks.items():
        assert torch.equal(found.blocks[path].inputs, block.inputs)
        for part in ("a", "A", "b", "B"):
            expected = getattr(factors.basis(path), part)
            assert torch.equal(getattr(found.basis(path), part), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_root_gives_the_basis_of_its_moment(dtype):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(2, 20, 60, generator=generator, dtype=torch.float64)
    root = root * torch.logspace(0, -5, 20)[:, None]
    root[:, -2:] = root[:, :2]  # Two rows say nothing new.
    values, vectors = decompose_root(root.to(dtype), "A")
    assert vectors.shape[1] == 60
    assert vectors.shape[2] < 20
    eps = torch.finfo(dtype).eps
    vectors = vectors.double()
    right = vectors.mT @ vectors
    assert float((right - torch.eye(right.shape[-1])).abs().max()) < 20 * eps
    moment = root.mT @ root
    rebuilt = (vectors * values[:, None]) @ vectors.mT
    assert float((rebuilt - moment).norm() / moment.norm()) < 20 * eps


def test_a_large_factor_in_single_precision_is_decomposed_in_it(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(80, 40, generator=generator) * torch.logspace(0, -4, 40)
    matrix = (root.T @ root)[None]
    expected, _ = decompose(matrix, "A")
    monkeypatch.setattr(eigenbasis_module, "_SMALL", 10)
    seen = []
    eigh = torch.linalg.eigh

    def recorded(argument):
        seen.append(argument.dtype)
        return eigh(argument)

    monkeypatch.setattr(torch.linalg, "eigh", recorded)
    values, vectors = decompose(matrix, "A")
    assert seen == [torch.float32]
    assert values.dtype == torch.float64
    assert vectors.dtype == torch.float32
    allowed = 10 * torch.finfo(torch.float32).eps * float(expected.max())
    torch.testing.assert_close(values, expected, rtol=0, atol=allowed)
    # One that is wrong is noticed, and done again in float64.

    def wrong(argument):
        found = recorded(argument)
        return found[0] * (1.001 if argument.dtype == torch.float32 else 1.0), found[1]

    monkeypatch.setattr(torch.linalg, "eigh", wrong)
    values, _ = decompose(matrix, "A")
    assert seen[-2:] == [torch.float32, torch.float64]
    assert torch.equal(values, expected)


def test_a_symmetric_product_in_tiles_is_the_product(monkeypatch):
    rows = torch.randn(2, 23, 9, dtype=torch.float64)
    monkeypatch.setattr("lqf.curvature.moments._TILE", 7)
    torch.testing.assert_close(second_moment(rows), rows @ rows.mT, **CLOSE)


def test_a_nan_in_a_root_is_refused():
    with pytest.raises(ValueError, match="factor A of layer 'x' has NaN"):
        decompose_root(torch.full((1, 2, 4), torch.nan), "A of layer 'x'")
