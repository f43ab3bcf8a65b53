"""Passes through the network, counted by hand beside what the configuration gives."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from lqf import config as settings
from lqf.amounts import Images, images_of
from lqf.data.published import read
from lqf.plan import work
from lqf.plan.work import Passes, Work

ROOT = Path(__file__).parents[3]
IMAGES = {"digits": Images(train=40, val=5, test=7, classes=10)}
NONLINEAR = {"rates": [0.1, 0.2, 0.3], "weight_decays": [0.1], "batch_norm": ["train", "frozen"]}


@pytest.fixture
def config() -> dict[str, Any]:
    """One data set and seed, no experiment."""
    loaded = settings.load(ROOT / "config/config.yaml", ROOT / "config/demo.yaml")
    loaded = copy.deepcopy(loaded)
    loaded |= {"seeds": [0], "train_per_class": None, "experiments": {}}
    loaded["training"]["nonlinear"] |= {**NONLINEAR, "epochs": 4}
    loaded["training"]["sgd"] |= {"rates": [0.1], "weight_decays": [0.1, 0.2], "epochs": 5}
    loaded["training"]["kfac_sgd"] |= {"rates": [0.1, 1.0], "weight_decays": [0.1], "epochs": 3}
    loaded["training"]["exact"] |= {"max_passes": 8}
    return loaded


def only(config: dict[str, Any], experiment: str, **section: Any) -> list[Work]:
    config["experiments"] = {experiment: {"seeds": [0], **section}}
    return work.of(config, IMAGES)


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("nlft", Passes(6 * 4 * 40, 6 * (2 * 40 + 52))),
        ("gaf", Passes(2 * 5 * 40, 2 * 52 + 12, 40, 1)),
        ("lqf", Passes(2 * 3 * 40, 2 * 52 + 12, 40, 1)),
        ("lqf_exact", Passes(8 * 40, 52 + 12, 40, 1)),
        ("fc", Passes(setup=52, problems=1, features=2 * 5 * 40)),
        ("lqf_fc", Passes(setup=52, problems=1, features=2 * 3 * 40)),
    ],
)
def test_one_job_trains_its_grid(config: dict[str, Any], method: str, passes: Passes) -> None:
    found = only(config, "comparison", datasets=["digits"], methods=[method])

    assert found == [Work("train", method, passes)]


def test_augmented_heads_need_new_features_each_epoch(config: dict[str, Any]) -> None:
    config["training"]["sgd"]["augment"] = True
    found = only(config, "comparison", datasets=["digits"], methods=["fc"])

    assert found[0].passes == Passes(setup=52 + 400, problems=1, features=400)


def test_a_run_that_two_experiments_share_is_counted_once(config: dict[str, Any]) -> None:
    section = {"datasets": ["digits"], "methods": ["gaf"], "seeds": [0, 1]}
    config["experiments"] = {"comparison": section, "ablation": section}

    assert work.of(config, IMAGES) == [Work("train", "gaf", Passes(800, 232, 80, 2))]


def test_few_images_a_class_are_few_passes(config: dict[str, Any]) -> None:
    config["train_per_class"] = 2
    found = only(config, "comparison", datasets=["digits"], methods=["gaf"])
    assert found[0].passes.training == 2 * 5 * 20

    shots = only(config, "kshot", datasets=["digits"], methods=["gaf"], shots=[1, 3])
    assert shots[0].passes.training == 2 * 5 * (10 + 30)
    every = only(config, "kshot", datasets=["digits"], methods=["gaf"], shots=[1, "all"])
    assert every[0].passes.training == 2 * 5 * (10 + IMAGES["digits"].train)

    noise = {"datasets": ["digits"], "methods": ["gaf"], "shots": [1, 3], "noise": [0, 20, 40]}
    wrong = only(config, "regularized", **noise)
    assert wrong[0].passes.training == 2 * 5 * (10 + 3 * 30)


def test_a_step_of_active_learning_is_an_extension_in_each_order(config: dict[str, Any]) -> None:
    section = {
        "datasets": ["digits"],
        "methods": ["lqf_exact"],
        "images": 40,
        "start": 1,
        "steps": 1,
    }
    found = only(config, "active", **section)
    most, images = config["training"]["exact"]["max_passes"], IMAGES["digits"]
    fits = most * (10 + 3 * 20)
    assert found[0].passes.training == fits + 30 * 10 + 3 * most * 20
    assert found[0].passes.problems == 4
    assert images.classes == 10


def test_a_sweep_of_rates_has_its_own_epochs(config: dict[str, Any]) -> None:
    found = only(
        config,
        "elr",
        datasets=["digits"],
        methods=["gaf"],
        rates=[1, 2],
        batches=[1, 2, 3],
        epochs=7,
    )

    assert found == [Work("elr", "gaf", Passes(6 * 7 * 40, 6 * 52 + 12, 40, 1))]


def test_learning_online_trains_on_what_has_arrived(config: dict[str, Any]) -> None:
    # 3, 6 and 9 images, from the last solution and from the start, 2 epochs, and the stop rule.
    fits = 2 * 2 * (3 + 6 + 9)
    found = only(
        config,
        "online",
        dataset="digits",
        methods=["lqf", "gaf"],
        steps=3,
        per_step=3,
        max_epochs=2,
    )

    forward = fits + 2 * (3 + 6 + 9) + 2 * 3 * (5 + 7)
    assert set(found) == {
        # Its curvature is that of 3, then of 6 images.
        Work("online", "lqf", Passes(fits, forward, 2 * 9, 2)),
        # The rate is searched on everything that will arrive.
        Work("online", "gaf", Passes(fits + 2 * 5 * 9, forward + 2 * (9 + 12) + 12, 9, 1)),
    }


def test_a_spectrum_takes_the_gram_matrix_of_its_samples_twice(config: dict[str, Any]) -> None:
    found = only(config, "spectrum", dataset="digits", samples=6)

    assert found[0].passes.training == 6 * 4 * 40 + 2 * 6 * (6 * 10)


def test_removing_samples_trains_again_in_every_order(config: dict[str, Any]) -> None:
    # 5 orders of 3 removals; two of them score again after every 2 of 40 samples, 2 times until 4.
    found = only(config, "informativeness", dataset="digits", removals=[0, 1, 4])

    fit = Passes(8 * 40, 52 + 12, 40, 1)
    rows = 40 * 10 + 5 * min(8, 10)
    assert found[0].passes == fit + Passes(rows + (5 * 3 + 2 * 2) * 8 * 40, 5 * 3 * 7)


def test_own_data_that_is_not_prepared_is_left_out(config: dict[str, Any]) -> None:
    config["experiments"] = {"comparison": {"datasets": ["mine"], "methods": ["gaf"], "seeds": [0]}}

    assert work.of(config, IMAGES) == []


def test_numbers_of_the_catalogue(tmp_path: Path) -> None:
    catalogue = read().datasets

    assert images_of("flowers102", tmp_path, catalogue) == Images(1020, 1020, 6149, 102)
    pets = images_of("oxford_pets", tmp_path, catalogue)
    assert pets == Images(3680 - 368, 368, 3669, 37)
    cells = images_of("malaria", tmp_path, catalogue)
    assert cells is not None
    assert cells.total == 27558
    assert cells.test == round(0.2 * 27558)
    assert images_of("digits", tmp_path, catalogue) == Images(1797 - 700, 200, 500, 10)
    assert images_of("mine", tmp_path, catalogue) is None


def test_prepared_data_have_their_own_numbers(tmp_path: Path) -> None:
    text = '{"images": {"train": 3, "val": 2, "test": 1}, "classes": ["a", "b"]}'
    (tmp_path / "dataset.json").write_text(text)

    assert images_of("mine", tmp_path, {}) == Images(3, 2, 1, 2)


def test_the_plan_counts_with_the_numbers_of_the_experiment() -> None:
    from lqf.experiments import informativeness
    from lqf.optimum import large

    assert len(informativeness.ORDERS) == work._ORDERS
    again = [schedule for _, schedule in informativeness.ORDERS if schedule == "iterative"]
    assert len(again) == work._ITERATED
    assert informativeness.ROUND == work._ROUND
    assert large._COMBINATIONS == work._PROBES
