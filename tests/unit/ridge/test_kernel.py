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
    maker = KernelMaker(
        samples, curvature, EPSILONS, head, None if len(mix.T) == 3 else mix, batch=2
    )
    left, right = (
        torch.einsum("ncp,cm->nmp", rows(network, part), mix).flatten(0, 1) for part in (others, x)
    )
    gram, cross, own = maker.gram(x), maker.cross(others, x), maker.own(others)
    again = maker.cross(others[:1], x)
    for epsilon in EPSILONS:
        metric = Metric(curvature, layout, epsilon, head, 3.0)
        K = right @ metric.solve(right).T
        torch.testing.assert_close(gram.at(epsilon, 3.0), K)
        X = left @ metric.solve(right).T
        torch.testing.assert_close(cross.at(epsilon, 3.0), X)
        torch.testing.assert_close(again.at(epsilon, 3.0), X[: mix.shape[1]])
        O = (left @ metric.solve(left).T).view(3, mix.shape[1], 3, -1)
        expected = torch.stack([O[i, :, i] for i in range(3)])
        torch.testing.assert_close(own.at(epsilon, 3.0), expected)
