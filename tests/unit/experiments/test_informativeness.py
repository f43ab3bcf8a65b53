"""Informative samples of exact LQF, where the kernel is held and where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from worlds import network, task

from lqf.experiments import informativeness as experiment
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.task import Task
from lqf.method import get
from lqf.optimum import optimum

SETTINGS: Any = {"training": {"exact": {"tolerance": 1e-9, "max_passes": 400}}}


@pytest.fixture(scope="module")
def colours() -> Task:
    return task(24)


def model(colours: Task) -> experiment.Model:
    problem = ExactProblem(get("lqf_exact"), network(), colours, 15.0, True)
    return experiment.Model(problem, colours, SETTINGS, 0)


def test_scores_are_those_of_retraining(colours: Task) -> None:
    made = model(colours)
    ranking = made.ranking()
    columns = made.columns(ranking)
    assert set(columns) < set(experiment.SCORE_COLUMNS)
    assert made.scored_by == "fsi_exact"
    everything = torch.arange(24)
    for i in (0, 5, 23):
        kept = everything[everything != i]
        without = made.optimum.forget(kept, torch.tensor([i]))
        before = made.optimum.problem.jacobian_of(made._val)
        change = before.forward(made.optimum.delta) - before.forward(without.delta)
        assert ranking[i].item() == pytest.approx(change.square().sum(1).mean().item(), rel=1e-6)
    alike = torch.corrcoef(torch.stack([columns["fsi_kfac"], ranking]))[0, 1]
    assert alike > 0.5
    torch.testing.assert_close(made.scores(everything), ranking)


def test_large_problems_are_scored_by_estimates_and_retrained_by_iteration(
    colours: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = model(colours)
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    large = model(colours)
    assert large.scored_by == "fsi_estimated"
    assert large.retrained_by == "conjugate gradients"
    columns = large.columns(large.ranking())
    assert {"fsi_exact", "fsi_eq8", "fsi_kfac"}.isdisjoint(columns)
    kept = torch.arange(3, 24)
    assert abs(large.errors(kept)[1] - exact.errors(kept)[1]) <= 5
    assert large.scores(kept).shape == (21,)


def test_removals_that_leave_too_few_samples_are_named(
    colours: Task, caplog: pytest.LogCaptureFixture
) -> None:
    assert experiment._removals(colours, [0, 4]) == [0, 4]
    assert not caplog.records

    most = len(colours.train) - colours.classes
    assert experiment._removals(colours, [0, most - 1, most, 10**6]) == [0, most - 1]
    assert f"removals: {most}, 1000000 are left out" in caplog.text
    assert f"of {len(colours.train)} training samples" in caplog.text
