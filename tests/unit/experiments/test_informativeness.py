"""Informative samples where the Gram matrix fits, where J does not, and where neither does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from worlds import task

from lqf.experiments import informativeness as experiment
from lqf.experiments import informativeness_exact, informativeness_large
from lqf.experiments import problem as problems
from lqf.experiments.informativeness_exact import ExactModel
from lqf.experiments.informativeness_large import LargeModel
from lqf.experiments.problem import LinearProblem
from lqf.experiments.task import Task
from lqf.linear import NetworkJacobian
from lqf.method import get

DECAY = 1e-2
PCG = {"weight_decays": [DECAY], "damping": DECAY, "tolerance": 1e-10, "max_passes": 400}


@pytest.fixture(scope="module")
def colours() -> Task:
    return task(24)


def problem(colours: Task) -> LinearProblem:
    """Few enough parameters for all of them to be coordinates."""
    torch.manual_seed(1)
    network: Any = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, colours.classes),
    )  # fmt: skip
    return LinearProblem(get("lqf_exact"), network.double(), colours, 15.0, False)


def exact(colours: Task) -> ExactModel:
    return ExactModel(problem(colours), colours, DECAY * len(colours.train))


def large(colours: Task, **options: Any) -> LargeModel:
    return LargeModel(problem(colours), colours, PCG, 0, "title", **options)


def removed(step: int) -> Any:
    return lambda number: torch.arange(step * number, 24)


def test_a_jacobian_that_is_not_held_changes_nothing(
    colours: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = exact(colours)
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)
    again = exact(colours)
    assert isinstance(again._problem.jacobian, NetworkJacobian)

    for name, values in held.columns().items():
        torch.testing.assert_close(again.columns()[name], values, rtol=1e-6, atol=1e-9, msg=name)
    assert again.error("walk", 3, removed(2)) == held.error("walk", 3, removed(2))


def test_with_all_coordinates_the_large_model_is_exact(
    colours: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = exact(colours)
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)
    monkeypatch.setattr(informativeness_large, "PROBES", colours.classes)
    model = large(colours, coordinates=10**6)

    assert model.mu == pytest.approx(reference.mu)
    torch.testing.assert_close(model.ranking(), reference.ranking(), rtol=1e-5, atol=1e-9)
    wanted, found = reference.columns(), model.columns()
    torch.testing.assert_close(found["leverage"], wanted["leverage"], rtol=1e-5, atol=1e-8)
    assert found["loo_error"].tolist() == wanted["loo_error"].tolist()
    for number in (0, 1, 4):
        assert model.error("walk", number, removed(3)) == reference.error(
            "walk", number, removed(3)
        )
    torch.testing.assert_close(
        model.scores("other walk", 2, removed(3)),
        reference.scores("other walk", 2, removed(3)),
        rtol=1e-5,
        atol=1e-9,
    )


def test_few_coordinates_order_samples_much_as_all_do(
    colours: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = exact(colours).ranking()
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)

    ranking = large(colours, coordinates=100).ranking()

    ranks = torch.stack([ranking.argsort().argsort(), reference.argsort().argsort()]).double()
    assert torch.corrcoef(ranks)[0, 1] > 0.8


def test_the_route_is_chosen_by_size_and_told(
    colours: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"training": {"pcg": PCG}}
    with caplog.at_level("INFO"):
        assert isinstance(
            experiment._model(problem(colours), colours, settings, 0, "t"), ExactModel
        )
        monkeypatch.setattr(informativeness_exact, "EXACT_ROWS", 71)
        model = experiment._model(problem(colours), colours, settings, 0, "t")
    assert isinstance(model, LargeModel)
    assert "24 samples × 3 classes have a Gram matrix of 72 rows" in caplog.text
    assert "retrained by iteration" in caplog.text


def test_memory_decides_the_number_of_coordinates(
    colours: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)
    monkeypatch.setenv("LQF_MEMORY", "0.004")
    with caplog.at_level("INFO"):
        model = large(colours)
    assert model._size == 128
    assert "128 coordinates instead of 2048" in caplog.text

    monkeypatch.setenv("LQF_MEMORY", "0.0004")
    with pytest.raises(ValueError, match="24 samples × 3 classes are too many to score"):
        large(colours)


def test_columns_that_were_not_computed_are_empty(
    colours: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(colours, class_names=("a", "b", "c"))
    rows = experiment._score_rows(large(small, coordinates=50), small)

    assert {"fsi_exact", "fsi_eq8", "fsi_kfac"}.isdisjoint(rows[0])
    assert {row["scored_by"] for row in rows} == {"fsi_compressed"}
    assert set(rows[0]) <= set(experiment.SCORE_COLUMNS)


def test_removals_that_leave_too_few_samples_are_named(
    colours: Task, caplog: pytest.LogCaptureFixture
) -> None:
    assert experiment._removals(colours, [0, 4]) == [0, 4]
    assert not caplog.records

    most = len(colours.train) - colours.classes
    assert experiment._removals(colours, [0, most - 1, most, 10**6]) == [0, most - 1]
    assert f"removals: {most}, 1000000 are left out" in caplog.text
    assert f"of {len(colours.train)} training samples" in caplog.text
