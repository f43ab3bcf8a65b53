"""A job that was interrupted continues, and ends with the rows of one that never was."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lqf import checkpoint, method, run
from lqf.checkpoint import Points, kept
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.experiments.rows import Row, fit_grid
from lqf.experiments.task import Split, Task
from lqf.networks import build

interrupted = functools.partial(contextlib.suppress, KeyboardInterrupt)
SETTINGS = {"backbone": {"network": "demo_resnet", "slope": 0.1}, "target_scale": 15.0}
KEY = "0123"


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return Split(images, torch.arange(count) % 3, torch.arange(count))


@pytest.fixture(scope="module")
def task() -> Task:
    return Task("noise", ("a", "b", "c"), split(12, 0), split(6, 1), split(6, 2))


Grid = Callable[[], list[Row]]


@pytest.fixture(params=["fc", "nlft"])
def grid(request: pytest.FixtureRequest, task: Task) -> Grid:
    """Trains three grid points, one of which diverges, with a new problem at each call."""
    point = method.get(request.param)

    def train() -> list[Row]:
        torch.manual_seed(0)  # the backbone, which a job reads from a file
        network = build("demo_resnet", 3, activation="relu", slope=0.1, seed=0).eval()
        problem = make_problem(point, network, task, 15.0, False)
        rates = (0.01, 1e8, 0.001)
        points = [Point(1e-4, rate=rate, batch=4, epochs=1, momentum=0.9) for rate in rates]
        rows, _ = fit_grid(request.param, point, problem, task, points, SETTINGS, 0, "grid")
        return rows

    return train


def csv_of(rows: list[Row], folder: Path) -> bytes:
    """The bytes of metrics.csv without the one column that two runs do not share."""
    untimed = [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]
    run.write_rows(folder / "metrics.csv", untimed)
    return (folder / "metrics.csv").read_bytes()


def interrupt_after(count: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Make fits stop the process after some; returns a list that grows by one with each fit."""
    fits: list[int] = []

    def watched(original: Callable[..., Fit]) -> Callable[..., Fit]:
        def fit(*arguments: Any, **keywords: Any) -> Fit:
            if len(fits) == count:
                raise KeyboardInterrupt
            fits.append(len(fits))
            return original(*arguments, **keywords)

        return fit

    for kind in (NonlinearProblem, LinearProblem):
        patch.setattr(kind, "fit", watched(kind.fit))
    return fits


@pytest.mark.parametrize("finished", [1, 2])
def test_a_continued_grid_has_the_rows_of_an_uninterrupted_one(
    grid: Grid, finished: int, tmp_path: Path
) -> None:
    whole = csv_of(grid(), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(finished, patch)
        with pytest.raises(KeyboardInterrupt), kept(tmp_path, KEY):
            grid()

    with pytest.MonkeyPatch.context() as patch:
        fits = interrupt_after(9, patch)
        with kept(tmp_path, KEY):
            continued = csv_of(grid(), tmp_path)

    assert len(fits) == 3 - finished
    assert continued == whole
    assert b"diverged" in whole
    assert not (tmp_path / checkpoint.FOLDER).exists()


def test_wall_time_is_that_of_the_process_that_finished_the_point(
    grid: Grid, tmp_path: Path
) -> None:
    with interrupted(), kept(tmp_path, KEY) as folder:
        first = grid()
        raise KeyboardInterrupt
    assert len(list(folder.iterdir())) == 3

    with kept(tmp_path, KEY):
        second = grid()

    assert [row["wall_s"] for row in second] == [row["wall_s"] for row in first]


def test_other_points_grids_and_jobs_are_not_mixed(tmp_path: Path) -> None:
    with interrupted(), kept(tmp_path, KEY):
        Points("grid").put(Point(0.1), {"row": 1})
        assert Points("grid").get(Point(0.1)) == {"row": 1}
        assert Points("grid").get(Point(0.2)) is None
        assert Points("other grid").get(Point(0.1)) is None
        raise KeyboardInterrupt

    with kept(tmp_path, "another key"):
        assert Points("grid").get(Point(0.1)) is None


def test_numbers_come_back_bit_by_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-310, float("inf"), 3, True, None, "λ"]
    with kept(tmp_path, KEY):
        Points("grid").put("point", {"values": values})

        back = Points("grid").get("point")

    assert back is not None
    assert [(type(value), value) for value in back["values"]] == [(type(v), v) for v in values]


def test_damaged_point_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with kept(tmp_path, KEY) as folder:
        Points("grid").put("point", {"row": 1})
        (file,) = folder.iterdir()
        for damaged in (b"{", b"", file.read_bytes().replace(b"1}", b"3}")):
            file.write_bytes(damaged)
            caplog.clear()

            assert Points("grid").get("point") is None
            assert "damaged" in caplog.text


def test_outside_a_job_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    Points("grid").put("point", {"row": 1})

    assert Points("grid").get("point") is None
    assert list(tmp_path.iterdir()) == []
