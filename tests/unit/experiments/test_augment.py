"""Problems whose images are fed from disk, with and without augmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds import CLASSES, network

from lqf.data.feed import Feed
from lqf.experiments import problem as problems
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear import Schedule, train_network
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.experiments.task import Split, Task, views_of
from lqf.jacobian import Linearized
from lqf.losses import CrossEntropy, SquaredLoss
from lqf.method import METHODS

SGD = Point(1e-2, 1e-4, batch=4, epochs=3, momentum=0.9, milestones=(0.5,), decay=0.1)
EXACT = Point(1e-2, tolerance=1e-2, max_passes=10)


def split(count: int, seed: int, stored: int = 10) -> Split:
    """Noise around the colour of the class, in a packed array that is fed at 8 × 8."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    colour = 80 * np.eye(CLASSES)[labels][:, None, None]
    pixels = (colour + rng.integers(0, 160, (count, stored, stored, 3))).astype(np.uint8)
    feed = Feed(pixels, np.arange(count), size=8, dtype=torch.float64)
    return Split(feed, torch.as_tensor(labels), torch.arange(count))


def task() -> Task:
    return Task("colours", ("red", "green", "blue"), split(12, 0), split(9, 1), split(15, 2))


def in_memory(fed: Task) -> Task:
    parts = {name: getattr(fed, name) for name in ("train", "val", "test")}
    held = {name: replace(part, images=part.images[:]) for name, part in parts.items()}
    return replace(fed, **held)


def make(name: str, of: Task) -> LinearProblem | NonlinearProblem:
    return make_problem(METHODS[name], network(), of, 15.0, fold=True)


@pytest.mark.parametrize(
    ("name", "point"),
    [("nlft", SGD), ("lqf_fc", replace(SGD, damping=1e-2)), ("gaf", SGD), ("lqf_exact", EXACT)],
)
def test_fed_images_give_what_images_in_memory_give(name, point, monkeypatch):
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)
    fed = task()
    held = in_memory(fed)

    first, second = make(name, fed).fit(point, seed=0), make(name, held).fit(point, seed=0)

    assert first.train_loss == second.train_loss
    assert torch.equal(first.outputs(fed.test), second.outputs(held.test))


def test_parts_of_a_fed_split():
    whole = split(12, 0)
    index = torch.tensor([4, 1])

    for part, kept in ((whole.take(5), torch.arange(5)), (whole.select(index), index)):
        assert isinstance(part.images, Feed)
        assert torch.equal(part.images[:], whole.images[:][kept])
        assert torch.equal(part.labels, whole.labels[kept])


def test_non_linear_training_sees_the_views_of_each_epoch():
    fed = split(12, 0)
    network_of = network().float()
    seen: list[torch.Tensor] = []
    network_of.features[0].register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    feed = Feed(fed.images._stored, np.arange(12), size=8)
    schedule = Schedule(1e-3, 0.0, batch=12, epochs=2, augment=True)

    train_network(network_of, feed, fed.labels, CrossEntropy(), schedule, seed=5)

    order = torch.Generator().manual_seed(5)
    for epoch, batch in enumerate(seen, start=1):
        index = torch.randperm(12, generator=order)
        assert torch.equal(batch, feed.augmented(5, epoch)[index])


@pytest.mark.parametrize("name", ["lqf_no_kfac", "lqf_fc"])
def test_a_linear_step_is_that_of_the_view(name):
    """One full-batch step from δ = 0 is the gradient at the augmented images, by hand."""
    fed = task()
    made = make(name, fed)
    assert isinstance(made, LinearProblem)
    point = replace(SGD, epochs=1, batch=12, momentum=0.0, milestones=(), augment=True, damping=1e9)
    view = views_of(fed.train.images, 0)(1)[:]
    loss = SquaredLoss(15.0, CLASSES)
    if name == "lqf_fc":
        view = made._embed(view).detach()
    linearized = Linearized(made.network)
    slope = loss.cotangent(linearized.outputs(view), fed.train.labels) / 12
    gradient = linearized.vjp(view, slope)
    if name == "lqf_fc":  # far above all curvature, the damping is the preconditioner
        point = replace(point, rate=1e5)
        gradient = gradient / made.preconditioner(1e9).epsilon

    delta = made.fit(point, seed=0).delta

    torch.testing.assert_close(delta, -point.rate * gradient, rtol=1e-5, atol=1e-12)
    plain = made.fit(replace(point, augment=False), seed=0).delta
    assert (plain - delta).norm() > 1e-3 * delta.norm()


def test_augmented_solutions_differ_by_seed_only():
    made = make("gaf", task())
    point = replace(SGD, augment=True)

    first, again = made.fit(point, seed=0), made.fit(point, seed=0)

    assert torch.equal(first.delta, again.delta)
    assert not torch.equal(first.delta, made.fit(point, seed=1).delta)


def test_images_in_memory_cannot_be_augmented():
    made = make("gaf", in_memory(task()))

    with pytest.raises(ValueError, match="held in memory"):
        made.fit(replace(SGD, augment=True), seed=0)
