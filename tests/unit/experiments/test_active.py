"""Images that are learned in the order that an exact optimum chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import network, task

from lqf.experiments import active as experiment
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.rows import Row
from lqf.method import get

SETTINGS: Any = {
    "training": {"exact": {"tolerance": 1e-9, "max_passes": 400}},
    "backbone": {"network": "demo_resnet", "slope": 0.01},
    "target_scale": 15.0,
}
COLOURS = task(24)


def learned(monkeypatch: pytest.MonkeyPatch, start: int, steps: int) -> list[Row]:
    problem = ExactProblem(get("lqf_exact"), network(), COLOURS, 15.0, True)
    monkeypatch.setattr(experiment, "few_images", lambda *_: (COLOURS, problem))
    settings = {**SETTINGS, "experiment": {"images": 24, "start": start, "steps": steps}}
    return experiment.active("lqf_exact", "colours", 0, Path(), Path(), settings)


def test_orders_share_their_start_and_where_everything_is_learned_their_end(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = learned(monkeypatch, 4, 4)
    assert {row["order"] for row in rows} == set(experiment.ORDERS)
    by_step = {(row["order"], row["mode"], row["step"]): row for row in rows}
    assert len(by_step) == len(rows) == 3 * (5 + 1)
    for step in range(5):
        assert {by_step[o, "incremental", step]["n_train"] for o in experiment.ORDERS} == {
            12 + 3 * step
        }
    for same in (("incremental", 0), ("incremental", 4), ("scratch", 4)):
        assert len({by_step[(o, *same)]["test_err"] for o in experiment.ORDERS}) == 1, same
    assert all(row["residual"] < 1e-6 for row in rows)
    # The start's constants are held; those of all images are chosen again.
    assert len({row["mu"] for row in rows if row["mode"] == "incremental"}) == 1
    solver = {"exact": 2.5, "iterative": 400.0}[kind]
    assert all(
        row["passes"] <= solver for row in rows if row["mode"] == "incremental" and row["step"]
    )


def test_steps_beyond_the_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'colours' has 24 training images; raise images"):
        learned(monkeypatch, 4, 5)


@pytest.mark.parametrize("order", experiment.ORDERS[:2])
def test_the_next_images_have_the_largest_score(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    problem = ExactProblem(get("lqf_exact"), network(), COLOURS, 15.0, True)
    point = experiment.grid_points(problem.method, SETTINGS["training"]["exact"])[0]
    start = problem.first(12).optimum(point, 0)
    pool = COLOURS.train.select(torch.arange(12, 24))
    if order == "variance":
        scores = torch.stack([torch.trace(one) for one in start.covariance(pool.images)])
    else:
        outputs = problem.outputs(start, pool).sort(1).values
        scores = outputs[:, 1] - outputs[:, 2]
    expected = set((12 + scores.argsort(descending=True)[:3]).tolist())

    asked: list[set[int]] = []
    extend = type(start).extend

    def watched(self: Any, images: torch.Tensor, *rest: Any) -> Any:
        places = (images[:, None] == COLOURS.train.images[None]).flatten(2).all(2).nonzero()[:, 1]
        asked.append(set(places.tolist()))
        return extend(self, images, *rest)

    monkeypatch.setattr(type(start), "extend", watched)
    learned(monkeypatch, 4, 1)
    assert asked[experiment.ORDERS.index(order)] == expected
