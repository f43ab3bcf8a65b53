"""The paper's network at the paper's size: one step of every method, and the expansion at w0.

ResNet-50 at 224 pixels, a batch of four. Four methods run always, the other four where LQF_FULL_SIZE is
set, as in `.ci/run`. What one step does not need is left out: the learning rate is given, where the
workflow finds it by ten passes over the data, and the curvature is that of two of the images (online
learning lends it in the same way).
"""

import math
import os
from functools import cache

import pytest
import torch

from lqf.experiments import problem
from lqf.experiments.grid import Point
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.experiments.task import Split, Task
from lqf.jacobian import Linearized
from lqf.method import METHODS, get
from lqf.networks import Classifier, build, recalibrate_batch_norm

BATCH, CLASSES, FEW = 4, 2, 2
LONG = pytest.mark.skipif(
    not os.environ.get("LQF_FULL_SIZE"), reason="a minute of a CPU: set LQF_FULL_SIZE"
)
SGD = Point(weight_decay=1e-4, rate=1e-4, batch=BATCH, epochs=1, momentum=0.9, batch_norm="train")
POINTS = {
    "sgd": SGD,
    "kfac_sgd": Point(
        weight_decay=1e-4, rate=1e-5, damping=1.0, batch=BATCH, epochs=1, momentum=0.9
    ),
    "exact": Point(weight_decay=0.0, tolerance=1e-3, max_passes=3),
}


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 224, 224, generator=generator)
    rows = torch.arange(count)
    return Split(images.contiguous(memory_format=torch.channels_last), rows % CLASSES, rows)


def task(count: int) -> Task:
    train, unseen = split(BATCH, 0), split(1, 1)
    return Task("random", ("a", "b"), train.take(count), unseen, unseen)


@cache
def network(pooling: str) -> Classifier:
    """Random weights; batch norm with the statistics of images, as weights that exist have."""
    torch.manual_seed(0)
    made = build(
        "resnet50",
        CLASSES,
        activation="leaky_relu",
        slope=0.01,
        pooling=pooling,
        covariance_dimension=256,
    )
    images = split(FEW, 0).images
    recalibrate_batch_norm(made.features, images)
    made = made.to(memory_format=torch.channels_last).eval()
    if pooling == "covariance":
        with torch.no_grad():
            made.pool.calibrate(made.features(images))
    return made


def linear(name: str, images: int) -> LinearProblem:
    method = get(name)
    made = make_problem(method, network(method.pooling), task(images), 15.0, fold=True)
    assert isinstance(made, LinearProblem)
    return made


@cache
def curvature(pooling: str) -> LinearProblem:
    """A problem that lends its curvature to those of the same network."""
    return linear("lqf" if pooling == "average" else "b_lqf", FEW)


@pytest.fixture(autouse=True)
def without_a_dense_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the paper's size, where the Jacobian does not fit into memory."""
    monkeypatch.setattr(problem, "DENSE_BYTES", 0)


@pytest.mark.parametrize(
    "name",
    [
        *("nlft", "fc", "lqf_fc", "lqf"),
        *(pytest.param(name, marks=LONG) for name in ("gaf", "mpn_cov", "lqf_exact", "b_lqf")),
    ],
)
def test_one_step_is_finite(name: str) -> None:
    method = get(name)
    if method.trained == "all" or method.exact:
        one = make_problem(method, network(method.pooling), task(BATCH), 15.0, fold=True)
    else:
        one = linear(name, BATCH)
        if method.trained == "linearized" and method.optimizer == "kfac_sgd":
            one.share_curvature(curvature(method.pooling))

    fit = one.fit(POINTS[method.training if method.exact else method.optimizer], seed=0)

    assert math.isfinite(fit.train_loss)
    outputs = fit.outputs(task(BATCH).test)
    assert torch.isfinite(outputs).all()
    # It was a step.
    with torch.no_grad():
        before = network(method.pooling)(task(BATCH).test.images)
    assert not torch.allclose(outputs, before, rtol=1e-4, atol=1e-5)


def test_the_methods_are_those_of_the_tables() -> None:
    ablations = {name for name in METHODS if name.startswith("lqf_no_")}
    tested = {"nlft", "mpn_cov", "fc", "gaf", "lqf_fc", "lqf", "lqf_exact", "b_lqf"}
    # The same networks and heads, by other optimizers or with a regulariser.
    others = {"nlft_adamw", "lp_ft", "l2_sp", "ps_kd", "elr", "ridge_head", "lqf_euclidean"}
    assert set(METHODS) - ablations - others == tested


def test_the_expansion_is_the_network_at_w0() -> None:
    made, few = network("average"), split(FEW, 0).images
    linearized = Linearized(linear("lqf", FEW).network)
    with torch.no_grad():
        expected = made(few)

    torch.testing.assert_close(linearized.outputs(few), expected, rtol=1e-3, atol=1e-4)
    assert not linearized.jvp(few, torch.zeros(linearized.layout.size)).any()
