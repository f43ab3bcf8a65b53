"""The paper's network at the paper's size: one step of every method, and the expansion at w0.

ResNet-50 at 224 pixels with two images. It takes two CPU minutes, so it runs on request:
``LQF_FULL_SIZE=1 pytest tests/unit/experiments/test_resnet50.py``.
"""

import math
import os

import pytest
import torch

from lqf.experiments import problem
from lqf.experiments.grid import Point
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.experiments.task import Split, Task
from lqf.linear import Linearized
from lqf.method import get
from lqf.networks import Classifier, build, recalibrate_batch_norm

CLASSES = 2


def split(seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(CLASSES, 3, 224, 224, generator=generator)
    labels = torch.arange(CLASSES)
    return Split(images.contiguous(memory_format=torch.channels_last), labels, labels)


TASK = Task("random", ("a", "b"), split(0), split(1), split(1))


def network(pooling: str) -> Classifier:
    """Random weights; batch norm with the statistics of the images, as weights that exist have."""
    torch.manual_seed(0)
    made = build(
        "resnet50",
        CLASSES,
        activation="leaky_relu",
        slope=0.01,
        pooling=pooling,
        covariance_dimension=256,
    )
    recalibrate_batch_norm(made.features, TASK.train.images)
    made = made.to(memory_format=torch.channels_last).eval()
    if pooling == "covariance":
        with torch.no_grad():
            made.pool.calibrate(made.features(TASK.train.images))
    return made


@pytest.mark.skipif(
    not os.environ.get("LQF_FULL_SIZE"), reason="takes two CPU minutes; set LQF_FULL_SIZE to run it"
)
@pytest.mark.parametrize("pooling", ["average", "covariance"])
def test_one_step_of_each_method_is_finite(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As at the paper's size, where the Jacobian does not fit into memory.
    monkeypatch.setattr(problem, "DENSE_BYTES", 0)
    point = Point(weight_decay=1e-4, rate=1e-4, batch=2, epochs=1, momentum=0.9, batch_norm="train")
    kfac = Point(
        weight_decay=1e-4, rate=0.1, relative=True, damping=1.0, batch=2, epochs=1, momentum=0.9
    )
    cg = Point(weight_decay=1e-4, damping=1.0, tolerance=1e-3, max_passes=3)
    points = {"sgd": point, "kfac_sgd": kfac, "pcg": cg}
    names = ["mpn_cov", "b_lqf"]
    if pooling == "average":
        names = ["nlft", "fc", "gaf", "lqf_fc", "lqf", "lqf_exact"]
    made, shared = network(pooling), None

    for name in names:
        method = get(name)
        one = make_problem(method, made, TASK, 15.0, fold=True)
        if isinstance(one, LinearProblem) and method.trained == "linearized":
            if shared is None:
                _check_expansion(one, made)
            else:
                one.share_curvature(shared)
            shared = one
        fit = one.fit(points[method.optimizer], seed=0)

        assert math.isfinite(fit.train_loss), name
        assert torch.isfinite(fit.outputs(TASK.train)).all(), name


def _check_expansion(one: LinearProblem, made: Classifier) -> None:
    linearized = Linearized(one.network)
    images = TASK.train.images
    with torch.no_grad():
        expected = made(images)
    torch.testing.assert_close(linearized.outputs(images), expected, rtol=1e-3, atol=1e-4)
    delta = torch.zeros(linearized.layout.size)
    assert not linearized.jvp(images, delta).any()
