import json
from dataclasses import replace

import pytest
import torch
from benchmarks import damping, realbench
from benchmarks.run import run
from fake_realbench import make
from torch import nn

from lqf.curvature import Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.linear import Linearized, NetworkJacobian
from lqf.losses import SquaredLoss
from lqf.networks import fold_batch_norm
from lqf.solve import solve_sgd, stable_rate

CASE = replace(damping.SMALL, network="tiny")


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 8, 3, 2),
    )


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("LQF_REALBENCH", str(make(tmp_path / "realbench", {"cub_25": 3})))
    monkeypatch.setitem(realbench.NETWORKS, "tiny", tiny)
    monkeypatch.setattr(damping, "SMALL", CASE)
    realbench._read.cache_clear()
    return tmp_path


def test_the_simulation_is_the_solver(world):
    made = damping.kernels(CASE)
    task = realbench.load(CASE.dataset, damping.Sizes(CASE.train, 1, CASE.test), 32, 0)
    chosen = task.train.labels < CASE.classes
    images, labels = task.train.images[chosen], task.train.labels[chosen]
    start = realbench.network("tiny", CASE.classes, "leaky_relu", damping.SLOPE, 0, images)
    network = fold_batch_norm(start)
    linearized = Linearized(network)
    factors = kronecker_factors(network, images, linearized.layout.names)
    correction = eigenvalue_correction(network, images, factors)
    P = Preconditioner(factors, linearized.layout, 1e-2, correction)
    jacobian = NetworkJacobian(linearized, images, 16)

    # One batch, so that no order of the images is drawn.
    N = made.train
    found = damping.sgd(made, made.kernels[1e-2], N, 0.1)

    unit = stable_rate(jacobian, 0.0, P, iterations=200)
    assert found["unit"] == pytest.approx(unit, rel=1e-3)
    solution = solve_sgd(
        jacobian,
        SquaredLoss(damping.TARGET_SCALE, CASE.classes),
        labels,
        weight_decay=0.0,
        rate=0.1 * unit,
        momentum=damping.MOMENTUM,
        batch=N,
        epochs=damping.EPOCHS,
        preconditioner=P,
    )
    first = SquaredLoss(damping.TARGET_SCALE, CASE.classes).value(jacobian.base, labels)
    assert found["loss"] == pytest.approx(solution.loss / first.item(), rel=1e-2)


def test_dampings_and_rates_are_told(world):
    path = run("damping", world, 1, small=True)

    rows, text = json.loads(path.read_text())["rows"], path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").stat().st_size > 0
    batches = [batch for batch in damping.BATCHES if batch < 2 * CASE.train]
    assert len(rows) == len(damping.DAMPINGS) * len(batches) * len(damping.RATES)
    assert f"Batch {damping.SHOWN_BATCH} of {2 * CASE.train} images" in text
    assert text.count("\n| 1e") == len(damping.DAMPINGS)
