import pytest
import torch
from oracles import N, images, linearized, rows

from lqf.curvature import Metric, SampleGradients, estimate, moments
from lqf.curvature import estimate as estimate_of

estimating = __import__("lqf.curvature.estimate", fromlist=["_"])


def dense(curvature, layout) -> torch.Tensor:
    """F as a matrix, P × P."""
    where = dict(zip(layout.names, torch.arange(layout.size).split(layout.sizes), strict=True))
    matrix = torch.zeros(layout.size, layout.size, dtype=torch.float64)
    for block in curvature.layers.values():
        G, o, _ = block.values.shape
        index = torch.cat([where[n].reshape(G, o, -1) for n in block.names], -1)
        for g in range(G):
            A, B = block.A[g], block.B[g]
            Q = torch.kron(B, A)
            left_out = torch.eye(len(A), dtype=A.dtype) - A @ A.T
            part = Q @ torch.diag(block.values[g].flatten()) @ Q.T
            part += block.rest * torch.kron(torch.eye(o, dtype=A.dtype), left_out)
            flat = index[g].flatten()
            matrix[flat[:, None], flat] = part
    for name, values in curvature.diagonal.items():
        matrix[where[name], where[name]] = values
    return matrix


@pytest.mark.parametrize("name", ["plain", "normalised", "merged", "attention"])
def test_blocks_are_the_best_diagonals_in_their_eigenbases(name):
    network, x = linearized(name), images()
    samples = SampleGradients(network, x)
    curvature = estimate(samples, x, batch=2)
    J = rows(network, x).flatten(0, 1)
    G = J.T @ J / N
    F = dense(curvature, network.layout)
    torch.testing.assert_close(F.trace(), G.trace())
    assert curvature.mean == pytest.approx(float(G.trace()) / len(G))
    for block in curvature.layers.values():
        assert not block.thin
    kept = F.abs() > 1e-12 * F.abs().max()
    # F is the projection of G on matrices that are diagonal in these bases: ⟨F, G⟩ = ⟨F, F⟩.
    torch.testing.assert_close((F * G)[kept].sum(), (F * F).sum())
    again = estimate(samples, x, batch=N)
    torch.testing.assert_close(dense(again, network.layout), F)


def test_a_thin_basis_keeps_the_trace(monkeypatch):
    monkeypatch.setattr(moments, "WIDE", 20)
    monkeypatch.setattr(moments, "RANK", 7)
    network, x = linearized("plain"), images()
    curvature = estimate(SampleGradients(network, x), x)
    J = rows(network, x).flatten(0, 1)
    assert [b.thin for b in curvature.layers.values()] == [True, False, True]
    assert dense(curvature, network.layout).trace() == pytest.approx(float(J.square().sum()) / N)


def test_random_probes_are_right_in_expectation(monkeypatch):
    network, x = linearized("plain"), images(40)
    samples = SampleGradients(network, x)
    exact = estimate(samples, x)
    monkeypatch.setattr(estimating, "GRADIENTS", 80)
    found = [estimate_of(samples, x, seed=seed) for seed in range(20)]
    assert found[0].passes < exact.passes
    mean = sum(f.mean for f in found) / len(found)
    assert mean == pytest.approx(exact.mean, rel=0.05)


def test_nan_is_named_by_its_layer():
    network, x = linearized("plain"), images()
    samples = SampleGradients(network, x)
    x[2] = torch.nan
    with pytest.raises(ValueError, match=r"0\.weight|NaN"):
        estimate(samples, x)


@pytest.mark.parametrize("name", ["plain", "normalised", "merged"])
@pytest.mark.parametrize("thin", [False, True])
def test_the_metric_is_inverted_block_by_block(name, thin, monkeypatch):
    if thin:
        monkeypatch.setattr(moments, "WIDE", 8)
        monkeypatch.setattr(moments, "RANK", 5)
    network, x = linearized(name), images()
    layout = network.layout
    curvature = estimate(SampleGradients(network, x), x)
    head = [n for n in layout.names if n.startswith(("5", "8", "head"))]
    metric = Metric(curvature, layout, 0.3, head, 4.0)
    M = dense(curvature, layout) + 0.3 * torch.eye(layout.size, dtype=torch.float64)
    scale = torch.cat(
        [
            torch.full((size,), 4.0 if name in head else 1.0, dtype=torch.float64)
            for name, size in zip(layout.names, layout.sizes, strict=True)
        ]
    )
    v = torch.randn(3, layout.size, dtype=torch.float64)
    expected = torch.linalg.solve(M, v.T).T * scale
    torch.testing.assert_close(metric.solve(v), expected)
    torch.testing.assert_close(metric.solve(v[0]), expected[0])
    assert torch.equal(Metric(None, layout).solve(v), v)
    with pytest.raises(ValueError, match="epsilon is 0"):
        Metric(curvature, layout, 0.0)
    other = type(layout)(layout.names[:-1], layout.shapes[:-1])
    with pytest.raises(ValueError, match=f"disagree about parameter '{layout.names[-1]}'"):
        Metric(curvature, other, 0.3)
