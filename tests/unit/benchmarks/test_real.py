import json

import pytest
import torch
from benchmarks import cells, compute, convergence, ranks, real, realbench
from benchmarks.run import main, run
from fake_realbench import make
from torch import nn


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU()
    )


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two small data sets and a small network where the real ones are expected."""
    folder = make(tmp_path / "realbench", {"cub_25": 3, "intel_scenes_6": 2})
    monkeypatch.setenv("LQF_REALBENCH", str(folder))
    monkeypatch.setattr(cells, "FOLDER", tmp_path / "cells")
    monkeypatch.setattr(real, "RESOLUTION", 32)
    monkeypatch.setitem(realbench.NETWORKS, real.NETWORK, tiny)
    realbench._read.cache_clear()
    return tmp_path


def results(path):
    """The rows and the report; that there is a plot."""
    assert path.with_suffix(".png").stat().st_size > 0
    return json.loads(path.read_text())["rows"], path.with_suffix(".md").read_text()


def test_every_method_is_fitted_chosen_on_validation_and_told(world):
    rows, text = results(run("real", world, 2, small=True))

    expected = [(m, s) for m in real.METHODS for s in (0, 1)]
    assert [(r["method"], r["seed"]) for r in rows if r["dataset"] == "cub_25"] == expected
    for row in rows:
        finite = [r["val_err"] for r in row["rows"] if r["status"] == "ok"]
        assert row["rows"][row["chosen"]]["val_err"] == min(finite)
        assert len(row["rows"]) <= real.KEPT or row["seed"] == 0
    modes = {r["batch_norm"] for r in rows[0]["rows"]}
    assert rows[0]["method"] == "nlft"
    assert modes == {"train", "frozen"}
    assert "| cub_25 | 3 | 9 / 6 / 12 | 2 |" in text


def test_finished_cells_are_not_computed_again(world, monkeypatch):
    first = real.measure(1, small=True, methods=["fc"])
    monkeypatch.setattr(real, "one", lambda *arguments: pytest.fail("computed again"))

    assert real.measure(1, small=True, methods=["fc"]) == first


def test_conjugate_gradients_and_both_kinds_of_descent_have_curves(world):
    rows, text = results(run("convergence", world, 1, small=True))

    for row in rows:
        assert {c["kind"] for c in row["curves"]} == set(convergence.NAMES)
        assert row["optimum"] == row["curves"][0]["curve"][-1][1]
    assert text.count("| cub_25, seed 0 |") == 2 * len(convergence.NAMES)


@pytest.mark.parametrize(
    ("errors", "passes"),
    [([30.0, 20.0, 10.2], 3.5), ([10.0, 20.0, 10.0], 3.5), ([9.0, 8.0, 10.3], 1.5), ([30.0], None)],
)
def test_the_optimum_is_reached_where_the_error_stays_near_it(errors, passes):
    curve = [(number + 1.5, error) for number, error in enumerate(errors)]
    assert convergence.reached(curve, 10.0, test=1000) == passes


def test_one_test_image_is_no_difference():
    assert convergence.reached([(1.5, 12.0), (2.5, 10.0)], 10.0, test=50) == 1.5
    assert convergence.reached([(1.5, 12.0), (2.5, 10.0)], 10.0, test=51) == 2.5


def test_costs_of_both_are_told_beside_their_errors(world):
    rows, text = results(run("compute", world, 1, small=True))

    for row in rows:
        for way in ("loo", "fixed"):
            found = row["lqf"][way]
            assert found["cpu_s"] == pytest.approx(sum(found["parts"].values()))
            assert all(found["parts"][part] > 0 for part in ("rows", "kernel", "solve", "rest"))
        assert row["nlft"]["passes"] == 4 * 2
        if row["times"] == 1:
            assert row["nlft_longer"]["cpu_s"] > row["nlft"]["cpu_s"]
    assert [row["dataset"] for row in rows if row["times"] > 1] == ["intel_scenes_6"]
    assert "Median of the ratios of seconds" in text
    assert text.count("| cub_25 |") == 4 + 2


def test_timing_a_fit_changes_nothing_that_stays():
    before = [getattr(owner, key) for _, owner, key in compute.PARTS]
    with pytest.raises(KeyError), compute.profiled():
        raise KeyError("inside")
    assert [getattr(owner, key) for _, owner, key in compute.PARTS] == before


def test_ranks_are_compared_with_the_exact_ones(world):
    rows, text = results(run("ranks", world, 1, small=True))

    for row in rows:
        assert set(row["spearman"]) == set(ranks.MEASURES)
        assert all(-1 <= value <= 1 for value in row["spearman"].values())
        # All coordinates of a small network: nothing is approximate.
        assert row["spearman"]["fsi_compressed"] > 0.99
    assert "| intel_scenes_6, seed 0 | 8 |" in text


def test_rank_correlation_is_of_ranks():
    first = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert ranks.spearman(first, first.exp()) == pytest.approx(1.0)
    assert ranks.spearman(first, -(first**3)) == pytest.approx(-1.0)


def test_seeds_draw_disjoint_images_of_every_class(world):
    task = realbench.load("cub_25", realbench.Sizes(3, 2, 4), 32, seed=1)
    other = realbench.load("cub_25", realbench.Sizes(3, 2, 4), 32, seed=2)

    assert not set(task.train.rows.tolist()) & set(task.val.rows.tolist())
    assert task.train.labels.bincount().tolist() == [3, 3, 3]
    assert set(task.train.rows.tolist()) != set(other.train.rows.tolist())
    assert task.test.rows.tolist() == other.test.rows.tolist()


def test_published_weights_are_read_and_features_scaled(world, monkeypatch):
    monkeypatch.setitem(realbench.NETWORKS, real.NETWORK, realbench._squeezenet)
    task = realbench.load("cub_25", realbench.Sizes(2, 2, 2), 32, seed=0)
    for activation in ("relu", "leaky_relu"):
        network = realbench.network(real.NETWORK, 3, activation, 0.1, 0, task.train.images)
        square = network.embed(task.train.images).square().sum(1).mean().item()
        assert square == pytest.approx(realbench.SQUARE, rel=1e-5)


def test_without_the_images_the_reason_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LQF_REALBENCH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["run", "real", "--small", "--output", str(tmp_path)])

    main()

    assert "skipped: real images and weights are not at hand" in capsys.readouterr().out
    assert not (tmp_path / "real.json").exists()
