from dataclasses import replace

import pytest
import torch
from worlds import network, task

from lqf.experiments.grid import Point, grid_points
from lqf.experiments.online import _StopWhenLearned
from lqf.experiments.problem import make_problem
from lqf.experiments.rows import fit_grid, mark_selected
from lqf.method import METHODS
from lqf.run import COLUMNS

SETTINGS = {"target_scale": 15.0, "backbone": {"network": "demo_resnet", "slope": 0.1}}
GRID = {"rates": [0.1, 0.01], "weight_decays": [1e-4, 1e-3], "batch": 4, "epochs": 2}


def test_grid_is_the_product_and_batch_norm_belongs_to_nonlinear_methods() -> None:
    nonlinear = grid_points(METHODS["nlft"], {**GRID, "batch_norm": ["train", "frozen"]})
    linear = grid_points(METHODS["gaf"], {**GRID, "batch_norm": ["train", "frozen"]})

    assert len(nonlinear) == len(set(nonlinear)) == 8
    assert len(linear) == 4
    assert not any(point.relative for point in nonlinear + linear)
    assert all(point.relative for point in grid_points(METHODS["lqf"], GRID))


def test_selection_is_on_validation_and_ties_go_to_the_smaller_loss() -> None:
    rows = [
        {"status": "ok", "val_err": 5.0, "test_err": 1.0},
        {"status": "ok", "val_err": 2.0, "test_err": 9.0},
        {"status": "ok", "val_err": 2.0, "test_err": 8.0},
        {"status": "diverged", "val_err": None, "test_err": None},
    ]

    mark_selected(rows, {0: 0.1, 1: 0.4, 2: 0.3})

    assert [row["selected_val"] for row in rows] == [False, False, True, False]
    assert [row["selected_test"] for row in rows] == [True, False, False, False]


def test_a_diverged_point_is_recorded_and_the_sweep_goes_on() -> None:
    method, data = METHODS["gaf"], task()
    problem = make_problem(method, network(), data, 15.0, fold=True)
    base = Point(1e-4, 0.01, batch=4, epochs=30, momentum=0.9)
    points = [replace(base, rate=1e30), base]

    rows, fits = fit_grid("gaf", method, problem, data, points, SETTINGS, 0, "test")

    assert [row["status"] for row in rows] == ["diverged", "ok"]
    assert "learning rate 1e+30" in rows[0]["message"]
    assert rows[0].get("test_err") is None
    assert not rows[0]["selected_test"]
    assert list(fits) == [1]
    assert all(set(row) <= set(COLUMNS) for row in rows)
    assert rows[1]["elr"] == pytest.approx(0.01 / (0.1 * 4))
    assert rows[1]["mu"] == pytest.approx(len(data.train) * 1e-4)


def test_a_grid_that_diverges_everywhere_selects_nothing() -> None:
    rows = [{"status": "diverged"}, {"status": "diverged"}]

    mark_selected(rows, {})

    assert not any(row["selected_val"] or row["selected_test"] for row in rows)


def test_training_stops_after_epochs_in_a_row_below_the_bound() -> None:
    labels = torch.tensor([0, 1])
    right, wrong = torch.eye(2), torch.eye(2).flip(0)
    stop = _StopWhenLearned(labels, error=0.5, patience=2)

    said = [stop(n, 0.0, lambda o=o: o) for n, o in enumerate([right, wrong, right, right])]

    assert said == [False, False, False, True]
