"""Each regulariser against its paper's formulas in NumPy, and as nothing where it is turned off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import network, task

from lqf.experiments.grid import Point
from lqf.experiments.problem import make_problem
from lqf.experiments.regularized import mislabelled
from lqf.experiments.regularizers import ELR, L2SP, PSKD, Regularizer
from lqf.losses import CrossEntropy
from lqf.method import METHODS
from lqf.ridge import Snapshot

LABELS = torch.tensor([0, 2, 1, 1, 0])
EPOCHS = 4
#: What a network says in each epoch about all samples, seen in two batches.
SAID = torch.randn(EPOCHS, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
BATCHES = (torch.tensor([3, 0, 4]), torch.tensor([1, 2]))


def taught(regularizer: Regularizer) -> list[tuple[float, np.ndarray]]:
    """Objective and its gradient in the outputs, of each batch of each epoch."""
    found = []
    for said in SAID:
        for index in BATCHES:
            outputs = said[index].clone().requires_grad_()
            value = regularizer.value(outputs, index)
            value.backward()
            found.append((value.item(), outputs.grad.numpy()))
        regularizer.turn()
    return found


def softmax(outputs: Tensor) -> np.ndarray:
    powers = np.exp(outputs.numpy())
    return powers / powers.sum(1, keepdims=True)


def one_hot(index: Tensor) -> np.ndarray:
    return np.eye(3)[LABELS[index].numpy()]


def same(found: list[tuple[float, np.ndarray]], wanted: list[tuple[float, np.ndarray]]) -> None:
    assert len(found) == len(wanted) == EPOCHS * len(BATCHES)
    for (value, gradient), (right, slope) in zip(found, wanted, strict=True):
        assert value == pytest.approx(right, rel=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-11, atol=1e-14)


def plain() -> list[tuple[float, np.ndarray]]:
    wanted = []
    for said in SAID:
        for index in BATCHES:
            p, y = softmax(said[index]), one_hot(index)
            wanted.append((-(y * np.log(p)).sum(1).mean(), (p - y) / len(index)))
    return wanted


def test_none_is_the_loss_on_the_labels() -> None:
    same(taught(Regularizer(LABELS, CrossEntropy())), plain())


def test_ps_kd_softens_targets_by_the_predictions_of_the_last_epoch() -> None:
    wanted = []
    for t in range(1, EPOCHS + 1):
        share = 0.8 * t / EPOCHS
        for index in BATCHES:
            p, y = softmax(SAID[t - 1][index]), one_hot(index)
            past = y if t == 1 else softmax(SAID[t - 2][index])
            target = share * past + (1 - share) * y
            wanted.append((-(target * np.log(p)).sum(1).mean(), (p - target) / len(index)))
    same(taught(PSKD(LABELS, CrossEntropy(), EPOCHS)), wanted)


def test_elr_rewards_agreement_with_the_average_of_past_predictions() -> None:
    wanted, average = [], np.zeros((5, 3))
    for said in SAID:
        for index in BATCHES:
            p, y, n = softmax(said[index]), one_hot(index), len(index)
            average[index] = 0.7 * average[index] + 0.3 * p
            t = average[index]
            agreement = (p * t).sum(1, keepdims=True)
            value = -(y * np.log(p)).sum(1).mean() + 3 * np.log(1 - agreement).mean()
            wanted.append((value, (p - y - 3 * p * (t - agreement) / (1 - agreement)) / n))
    same(taught(ELR(LABELS, CrossEntropy())), wanted)


def test_l2_sp_adds_the_gradient_of_its_penalty() -> None:
    made = network()
    regularizer = L2SP(LABELS, CrossEntropy(), made, 0.3)
    first = {name: weight.detach().numpy().copy() for name, weight in made.named_parameters()}
    for weight in made.parameters():
        weight.data += torch.randn_like(weight)
        weight.grad = torch.ones_like(weight)

    regularizer.pull()

    for name, weight in made.named_parameters():
        origin = 0 if name.startswith("head.") else first[name]
        wanted = 1 + 0.3 * (weight.detach().numpy() - origin)
        np.testing.assert_allclose(weight.grad.numpy(), wanted, rtol=1e-12)


def test_each_turned_off_is_plain_fine_tuning() -> None:
    same(taught(PSKD(LABELS, CrossEntropy(), EPOCHS, last=0.0)), plain())
    same(taught(ELR(LABELS, CrossEntropy(), strength=0.0)), plain())
    made = network()
    for weight in made.parameters():
        weight.grad = torch.ones_like(weight)
    off = L2SP(LABELS, CrossEntropy(), made, 0.0)
    for weight in made.parameters():
        weight.data += 1
    off.pull()
    assert all((weight.grad == 1).all() for weight in made.parameters())


@pytest.mark.parametrize(
    "make", [lambda: PSKD(LABELS, CrossEntropy(), EPOCHS), lambda: ELR(LABELS, CrossEntropy())]
)
def test_a_batch_that_is_taken_twice_counts_once(make) -> None:
    once, twice = make(), make()
    for said in SAID:
        for index in BATCHES:
            twice.value(said[index] + 1, index)
            assert twice.value(said[index], index) == once.value(said[index], index)
        once.turn()
        twice.turn()


@pytest.mark.parametrize("name", ["l2_sp", "ps_kd", "elr"])
def test_a_regularised_method_learns_and_is_another_than_plain(name: str) -> None:
    point = Point(1e-2, 0.01, batch=4, epochs=3, momentum=0.9)
    losses = {}
    for one in ("nlft", name):
        problem = make_problem(METHODS[one], network(), task(), 15.0, fold=True)
        losses[one] = problem.fit(point, 0).train_loss
    outputs, labels = network()(task().train.images), task().train.labels

    assert losses[name] < CrossEntropy().value(outputs, labels)
    assert losses[name] != losses["nlft"]


class Stopped(Exception):
    """The process ended here."""


class Stopping:
    """Keeps the state after some steps and ends the training; from then on it is the state to go on from."""

    def __init__(self, after: int) -> None:
        self.after, self.kept = after, None

    def load(self) -> Snapshot | None:
        return self.kept

    def offer(self, snapshot: Callable[[], Snapshot]) -> None:
        self.after -= 1
        if self.after == 0:
            state = snapshot()
            copied = {name: tensor.clone() for name, tensor in state.tensors.items()}
            self.kept = Snapshot(copied, state.numbers)
            raise Stopped


@pytest.mark.parametrize("name", ["ps_kd", "elr"])
@pytest.mark.parametrize("after", [2, 5, 6])
def test_an_interrupted_training_remembers_what_the_last_epoch_said(name: str, after: int) -> None:
    # Three steps an epoch: in the first, in the second, at its end.
    point = Point(1e-2, 0.01, batch=4, epochs=3, momentum=0.9)
    problem = make_problem(METHODS[name], network(), task(), 15.0, fold=True)
    stopping = Stopping(after)
    with pytest.raises(Stopped):
        problem.fit(point, 0, resume=stopping)

    again, whole = problem.fit(point, 0, resume=stopping), problem.fit(point, 0)

    assert again.train_loss == whole.train_loss


def test_wrong_labels_are_as_many_as_said_and_never_in_the_test_split() -> None:
    whole = task(120)
    few, many = (mislabelled(whole, percent, seed=3) for percent in (20, 40))

    wrong = [one.train.labels != whole.train.labels for one in (few, many)]
    assert [int(one.sum()) for one in wrong] == [24, 48]
    assert bool(wrong[1][wrong[0]].all())
    assert torch.equal(few.train.labels[wrong[0]], many.train.labels[wrong[0]])
    assert int((many.val.labels != whole.val.labels).sum()) == 4
    assert many.test is whole.test
    shifts = (many.train.labels - whole.train.labels)[wrong[1]] % whole.classes
    assert set(shifts.tolist()) == {1, 2}
    assert torch.equal(mislabelled(whole, 0, seed=3).train.labels, whole.train.labels)
    assert not torch.equal(mislabelled(whole, 40, seed=4).train.labels, many.train.labels)
