import math

import pytest
import torch
from oracles import images, linearized, rows

from lqf.curvature import Metric, SampleGradients, estimate, moments
from lqf.ridge import KernelMaker, kernel

EPSILONS = (math.inf, 0.5, 1e-3)


@pytest.mark.parametrize("name", ["plain", "normalised", "merged", "attention"])
@pytest.mark.parametrize("how", ["whole", "thin", "in groups", "one combination"])
def test_kernels_are_those_of_dense_rows(name, how, monkeypatch):
    if how == "thin":
        monkeypatch.setattr(moments, "WIDE", 8)
        monkeypatch.setattr(moments, "RANK", 5)
    if how == "in groups":
        monkeypatch.setattr(kernel, "HELD", 2000)
        monkeypatch.setattr(kernel, "_CHUNK", 64)
        monkeypatch.setattr(kernel, "_STRIP", 4)
    network, x, others = linearized(name), images(), images(3, seed=1)
    samples = SampleGradients(network, x)
    curvature = estimate(samples, x)
    layout = network.layout
    head = frozenset(n for n in layout.names if n.startswith(("5", "8", "head")))
    mix = torch.eye(3, dtype=torch.float64)
    if how == "one combination":
        mix = torch.randn(3, 1, dtype=torch.float64)
    left, right = (
        torch.einsum("ncp,cm->nmp", rows(network, part), mix).flatten(0, 1) for part in (others, x)
    )
    for epsilon in EPSILONS:
        metric = Metric(curvature, layout, epsilon, head, 3.0)
        maker = KernelMaker(samples, metric, None if len(mix.T) == 3 else mix, batch=2)
        K = right @ metric.solve(right).T
        torch.testing.assert_close(maker.gram(x), K)
        X = left @ metric.solve(right).T
        torch.testing.assert_close(maker.cross(others, x), X)
        torch.testing.assert_close(maker.cross(others[:1], x), X[: mix.shape[1]])
        O = (left @ metric.solve(left).T).view(3, mix.shape[1], 3, -1)
        torch.testing.assert_close(maker.own(others), torch.stack([O[i, :, i] for i in range(3)]))
        if not math.isinf(epsilon):
            near = maker.candidates(x).at(epsilon, 3.0)
            # Between these two all quadratic forms lie where eigenvalues are off by √2 at most.
            for difference in (2**0.5 * near - K, K - near / 2**0.5):
                assert torch.linalg.eigvalsh(difference).min() > -1e-6 * K.trace()
