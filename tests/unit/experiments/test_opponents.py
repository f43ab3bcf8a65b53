"""What stronger fine-tuning does beside plain SGD: AdamW, L2-SP, LP-FT, label smoothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from worlds import network, task

from lqf.experiments.grid import Point, grid_points
from lqf.experiments.nonlinear import fit_head
from lqf.experiments.problem import make_problem
from lqf.method import METHODS, ImpossibleMethod, Method

POINT = Point(1e-4, 0.01, batch=4, epochs=3, momentum=0.9)


def fitted(name: str, point: Point) -> torch.nn.Module:
    problem = make_problem(METHODS[name], network(), task(), 15.0, fold=True)
    trained = problem.fit(replace(point, optimizer=METHODS[name].optimizer), 0).network
    assert trained is not None
    return trained


def distance(trained: torch.nn.Module) -> float:
    start = dict(network().features.named_parameters())
    return sum(
        (weight - start[name]).square().sum().item()
        for name, weight in trained.features.named_parameters()
    )


@pytest.mark.parametrize(
    ("name", "optimizer"), [("nlft_adamw", "adamw"), ("lp_ft", "lp_ft"), ("l2_sp", "sgd")]
)
def test_a_point_of_the_grid_names_its_optimizer_and_learns(name: str, optimizer: str) -> None:
    grid = {"rates": [0.01], "weight_decays": [1e-4], "batch_norm": ["frozen"], "epochs": 3}
    (point,) = grid_points(METHODS[name], {**grid, "batch": 4, "momentum": 0.9})
    assert point.optimizer == METHODS[name].optimizer == optimizer
    assert METHODS[name].training == name.removeprefix("nlft_")
    problem = make_problem(METHODS[name], network(), task(), 15.0, fold=True)
    before = F.cross_entropy(network()(task().train.images), task().train.labels).item()

    assert problem.fit(point, 0).train_loss < before


def test_l2_sp_decays_towards_the_first_weights() -> None:
    strong = replace(POINT, weight_decay=3.0)

    assert distance(fitted("l2_sp", strong)) < 0.5 * distance(fitted("l2_sp", POINT))
    assert distance(fitted("nlft", strong)) > 10 * distance(fitted("l2_sp", strong))


def test_the_head_alone_reaches_its_optimum() -> None:
    made, data = network(), task().train
    features = made.embed(data.images).detach()

    fit_head(made, features, data.labels, 0.1)

    weights = list(made.head.parameters())
    penalty = sum(weight.square().sum() for weight in weights)
    loss = F.cross_entropy(made.head(features), data.labels) + 0.05 * penalty
    assert all(g.abs().max() < 1e-4 for g in torch.autograd.grad(loss, weights))


def test_smoothed_targets_keep_outputs_closer() -> None:
    long = replace(POINT, epochs=40)
    plain, smooth = fitted("nlft", long), fitted("nlft", replace(long, label_smoothing=0.2))
    images = task().train.images

    assert smooth(images).softmax(1).max() < plain(images).softmax(1).max()


def test_a_linear_method_has_no_such_optimizer() -> None:
    with pytest.raises(ImpossibleMethod, match="for training all weights"):
        Method("linearized", "mse", "relu", "adamw")
