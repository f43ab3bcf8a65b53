"""The configuration: what is refused and how, and that files and schema do not drift apart."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lqf import config, config_keys
from lqf.data import published
from lqf.report import artefacts

ROOT = Path(__file__).parents[2]
SCHEMA = config_keys.schema()
PUBLISHED = published.read(ROOT / "config/datasets.yaml").datasets
PAPER = ROOT / "config/config.yaml"
DEMO = ROOT / "config/demo.yaml"
MINI = ROOT / "tests/workflow/mini.yaml"


@pytest.fixture
def demo() -> dict[str, Any]:
    return config.load(PAPER, DEMO)


def refusal(changed: dict[str, Any]) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.resolve(changed, PUBLISHED)
    return str(caught.value)


def put(tree: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of the tree with another value at a dotted path."""
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    node[last] = value
    return tree


@pytest.mark.parametrize("files", [(PAPER,), (PAPER, DEMO), (PAPER, DEMO, MINI)])
def test_shipped_configurations_are_accepted(files: tuple[Path, ...]) -> None:
    resolved = config.resolve(config.load(*files), PUBLISHED)

    left_out = {"regularized", "leave_one_out", "summary", "active"} if files[-1] == DEMO else set()
    assert set(resolved["experiments"]) == set(artefacts.AGGREGATED) - left_out
    assert all(section["seeds"] for section in resolved["experiments"].values())


def test_merge_is_snakemakes() -> None:
    from snakemake.utils import update_config

    merged = config.load(PAPER)
    update_config(merged, config.load(DEMO))

    assert config.load(PAPER, DEMO) == merged


def test_missing_file_is_named() -> None:
    with pytest.raises(config.ConfigError, match=r"nowhere\.yaml does not exist"):
        config.load("nowhere.yaml")


# A problem, and what the one sentence about it must contain: key, value, what is allowed.
REFUSED = [
    ("trainings", {}, ["'trainings'", "did you mean 'training'?"]),
    ("training.kfac", {}, ["'training.kfac'", "did you mean 'kfac_sgd'?", "exact"]),
    ("experiments.kshots", None, ["'experiments.kshots'", "did you mean 'kshot'?"]),
    ("training.sgd.rates", [0.1, -0.01], ["'training.sgd.rates[1]'", "-0.01", "greater than 0"]),
    ("training.sgd.rates", [], ["'training.sgd.rates' is []: it must have at least 1 item."]),
    ("training.sgd.rates", 0.1, ["'training.sgd.rates'", "0.1", "a valid list"]),
    ("training.sgd.rates", [0.1, 0.1], ["'training.sgd.rates'", "twice"]),
    ("training.sgd.momentum", 1.0, ["'training.sgd.momentum'", "1.0", "less than 1"]),
    ("training.sgd.decay", 2, ["'training.sgd.decay'", "2", "less than or equal to 1"]),
    ("training.sgd.epochs", 0, ["'training.sgd.epochs'", "greater than or equal to 1"]),
    ("training.exact.tolerance", "1e-3", ["'training.exact.tolerance'", "'1e-3'", "1.000000e-03"]),
    (
        "training.nonlinear.batch_norm",
        ["eval"],
        ["batch_norm[0]'", "'eval'", "'train' or 'frozen'"],
    ),
    ("seeds", [-1], ["'seeds[0]'", "-1", "greater than or equal to 0"]),
    ("seeds", [2**64], ["'seeds[0]'", "less than 1000000000"]),
    ("experiments.comparison.methods", ["nlft"], ["must contain another method"]),
    # What YAML makes of text without quotes.
    ("scale", datetime.date(2020, 1, 1), ["'scale'", "'2020-01-01'", "small letters"]),
    ("scale", [["x"] * 99] * 99, ["'scale'", "...", "valid string"]),
    ("scale", "Demo Run", ["'scale'", "'Demo Run'", "small letters"]),
    # A folder has no longer name; the run of `demo` would take this one's results for its own partial ones.
    ("scale", "x" * 300, ["'scale'", "up to 100 small letters"]),
    ("scale", "demo_partial", ["'scale'", "'demo_partial'", "an unfinished run"]),
    ("archives_folder", "a{b}", ["'archives_folder'", "'a{b}'", "neither braces"]),
    ("data_folder", "a\0b", ["'data_folder'", "control characters"]),
    ("seeds", ["0"], ["'seeds[0]'", "write it without quotes"]),
    ("training", None, ["'training' is None: it must be a mapping of keys."]),
    ("own", {"nan": {"folder": "x"}}, ["'own' is 'nan': readers of CSV files take it for"]),
    ("own", {"mine": {"folder": "x", "title": "1e5"}}, ["'own.mine.title' is '1e5'", "CSV"]),
    *(
        (
            "own",
            {"mine": {"folder": "x", "title": title}},
            ["'own.mine.title'", "up to 100 letters"],
        )
        for title in (
            "$x_1$",
            "a|b",
            "\\input{x}",
            "[a](b)",
            "\u202eltr",
            "a\nb",
            "<b>",
            "_x",
            "x" * 101,
        )
    ),
    ("own", {one: {"folder": one, "title": "T"} for one in "ab"}, ["the title 'T' twice"]),
    ("train_per_class", 0, ["'train_per_class'", "greater than or equal to 1"]),
    ("datasets", ["digits", "grek"], ["'datasets[1]'", "'grek'", "did you mean 'greek'?"]),
    ("backbone.pretrain.dataset", "leters", ["pretrain.dataset'", "did you mean 'letters'?"]),
    (
        "backbone.normalisation",
        {"mean": [0.5], "deviation": [1, 1, 0]},
        [
            "normalisation.mean'",
            "at least 3 items",
            "normalisation.deviation[2]'",
            "greater than 0",
        ],
    ),
    ("backbone.network", "resnet51", ["'backbone.network'", "did you mean 'resnet50'?"]),
    ("backbone.network", "googlenet", ["'backbone.network'", "auxiliary outputs"]),
    ("backbone.network", "vit_b_16", ["'image_size' is 16", "'vit_b_16'", "set 224"]),
    ("backbone.network", "alexnet", ["'mpn_cov'", "covariance", "'alexnet'", "leave the method"]),
    ("backbone.pretrain", None, ["'backbone.weights'", "'backbone.pretrain'", "both null"]),
    (
        "backbone.weights",
        {"relu": "imagenet1k_v1", "leaky_relu": "swap"},
        ["'backbone.weights'", "'backbone.pretrain'", "both set"],
    ),
    ("only", "kshots", ["'only'", "'kshots'", "did you mean 'kshot'?"]),
    ("data_folder", "no/such/folder", ["'data_folder'", "'no/such/folder'", "create it"]),
    ("experiments.online.dataset", "mit67", ["experiments.online.dataset'", "'mit67'", "digits"]),
    ("experiments.kshot.methods", ["nlft", "lqff"], ["methods[1]'", "did you mean 'lqf'?"]),
    ("experiments.kshot.methods", ["lqf"], ["experiments.kshot.methods'", "'nlft'"]),
    ("experiments.kshot.shots", [1, 50], ["kshot.shots[1]'", "50", "only 40"]),
    ("experiments.kshot.shots", [1, "al"], ["kshot.shots[1]'", "'al'", "at least 1, or all"]),
    ("experiments.kshot.shots", [0, "all"], ["kshot.shots[0]'", " 0:", "at least 1, or all"]),
    ("experiments.kshot.shots", ["all", "all"], ["kshot.shots'", "twice"]),
    ("experiments.kshot.methods", ["nlft"], ["experiments.kshot.methods'", "'lqf'"]),
    ("experiments.informativeness.removals", [8, 0], ["removals'", "start at 0 and rise"]),
    ("experiments.informativeness.removals", [0, 10**5], ["removals'", "100000", "leave at least"]),
]


@pytest.mark.parametrize(("key", "value", "parts"), REFUSED, ids=lambda one: str(one)[:40])
def test_bad_input_is_refused_with_key_value_and_what_is_allowed(
    demo: dict[str, Any], key: str, value: object, parts: list[str]
) -> None:
    demo["experiments"]["informativeness"]["dataset"] = "greek"
    demo["experiments"]["kshot"]["datasets"] = ["greek"]

    message = refusal(put(demo, key, value))

    assert all(part in message for part in parts), message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        (
            {"relu": "imagenet1k_v3"},
            ["weights.relu'", "'imagenet1k_v3'", "imagenet1k_v2, the path"],
        ),
        ({"relu": "swap"}, ["weights.relu'", "allowed are imagenet1k_v1"]),
        ({"relu": "no/such.pth"}, ["weights.relu'", "'no/such.pth'", "does not exist"]),
        ({"leaky_relu": "inplaceabn"}, ["leaky_relu'", "did you mean 'inplace_abn'?", "swap"]),
        ({"leaky_relu": "imagenet1k_v1"}, ["leaky_relu'", "allowed are swap, inplace_abn"]),
    ],
)
def test_weights_that_do_not_exist_are_refused(weights: dict[str, str], parts: list[str]) -> None:
    message = refusal(config.merge(config.load(PAPER), {"backbone": {"weights": weights}}))

    assert all(part in message for part in parts), message


def test_slope_of_published_weights_is_theirs() -> None:
    message = refusal(put(config.load(PAPER), "backbone.slope", 0.1))

    assert "'backbone.slope' is 0.1" in message
    assert "trained with 0.01: set that, or choose 'swap'" in message


def test_one_problem_is_one_sentence(demo: dict[str, Any]) -> None:
    message = refusal(put(demo, "training.sgd.rates", [-1.0]))

    assert message == "config key 'training.sgd.rates[0]' is -1.0: it must be greater than 0."


def test_missing_key_is_refused(demo: dict[str, Any]) -> None:
    del demo["training"]["exact"]["tolerance"]

    assert refusal(demo) == "config key 'training.exact.tolerance' is missing."


def test_method_without_its_training_section_is_refused(demo: dict[str, Any]) -> None:
    del demo["training"]["kfac_sgd"]

    assert "'lqf', which needs the key 'training.kfac_sgd'" in refusal(demo)


def test_online_asking_for_too_many_samples_is_refused(demo: dict[str, Any]) -> None:
    demo["experiments"]["online"]["dataset"] = "greek"
    demo["experiments"]["online"]["per_step"] = 100

    assert "10 steps of 100 samples, but 'greek' has only 480" in refusal(demo)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        # 5360 images, of which a tenth of each of 67 classes is for validation, to whole images.
        ("online.per_step", 170, "30 steps of 170 samples, but 'mit67' has at most 4857 training"),
        # An official split without a draw: 10 of each class.
        ("kshot.datasets", ["flowers102"], "'flowers102' has at most 10 training images of its s"),
        # 60 of each class, less a tenth; half an image for rounding.
        ("kshot.shots", [54, 60], "shots[1]' is 60, but 'caltech256' has at most 54 training"),
        (
            "active.steps",
            19,
            "2 images a class and learns one more in each of 19 steps, 1407 of 'mit67'",
        ),
        ("informativeness.removals", [0, 1020], "'flowers102' has at most 1020 training images in"),
    ],
)
def test_sizes_of_published_data_are_checked_before_any_download(
    key: str, value: object, part: str
) -> None:
    assert part in refusal(put(config.load(PAPER), f"experiments.{key}", value))


def test_shots_may_be_all_there_are(demo: dict[str, Any]) -> None:
    resolved = config.resolve(put(demo, "experiments.kshot.shots", [1, "all"]))

    settings = json.loads(config.job_settings(resolved, method_name="lqf", experiment="kshot"))
    assert settings["experiment"] == {"shots": [1, "all"]}


def test_claim_that_cannot_be_tested_is_refused(demo: dict[str, Any]) -> None:
    unknown = copy.deepcopy(demo["claims"])
    unknown[1]["measure"]["name"] = "win_fractions"
    malformed = copy.deepcopy(demo["claims"])
    malformed[0]["rule"]["holds"] = "mean > 0"

    assert "'claims[1]'" in refusal({**demo, "claims": unknown})
    assert "'mean' is neither a number nor" in refusal({**demo, "claims": malformed})


def test_impossible_point_is_refused_naming_both_keys(demo: dict[str, Any]) -> None:
    choices = {
        "trained": "linearized",
        "loss": "cross_entropy",
        "activation": "relu",
        "optimizer": "exact",
        "pooling": "average",
    }

    message = refusal({**demo, "methods": {"mine": choices}})

    assert "'methods.mine'" in message
    assert "'optimizer' (exact)" in message
    assert "'loss' (cross_entropy)" in message


def test_own_method_may_be_run(demo: dict[str, Any]) -> None:
    choices = {
        "trained": "head",
        "loss": "mse",
        "activation": "relu",
        "optimizer": "euclidean",
        "pooling": "average",
    }
    demo = put({**demo, "methods": {"ridge": choices}}, "experiments.comparison.methods", ["nlft"])
    demo["experiments"]["comparison"]["methods"].append("ridge")

    resolved = config.resolve(demo)

    settings = json.loads(config.job_settings(resolved, method_name="ridge"))
    assert settings["method"] == choices
    assert list(settings["training"]) == ["exact"]


def test_null_experiment_is_dropped(demo: dict[str, Any]) -> None:
    resolved = config.resolve(put(demo, "experiments.online", None))

    assert "online" not in resolved["experiments"]
    assert "figure5" not in [one.name for one in artefacts.select(resolved["experiments"])]


def test_only_experiment_is_the_one_that_is_left(demo: dict[str, Any]) -> None:
    assert list(config.resolve({**demo, "only": "kshot"})["experiments"]) == ["kshot"]


def test_leave_one_out_reads_the_exact_fits_of_others(demo: dict[str, Any]) -> None:
    demo = put(demo, "experiments.leave_one_out", {"methods": ["lqf_exact", "ridge_head"]})
    read = config.resolve(demo)["experiments"]["leave_one_out"]["rows_of"]
    assert read["train"]["methods"] == ["lqf_exact", "ridge_head"]
    assert read["train"]["datasets"] == demo["experiments"]["comparison"]["datasets"]
    assert read["kshot"]["methods"] == []

    assert "set 'only' to null" in refusal({**demo, "only": "leave_one_out"})
    assert "left out here" in refusal(put(demo, "experiments.comparison", None))
    inexact = put(demo, "experiments.leave_one_out.methods", ["lqf_exact", "fc"])
    assert "methods' has 'fc', which is not solved exactly" in refusal(inexact)


def test_experiment_without_seeds_takes_the_common_ones(demo: dict[str, Any]) -> None:
    demo["experiments"]["online"].pop("seeds", None)

    resolved = config.resolve({**demo, "seeds": [7, 8]})

    assert resolved["experiments"]["online"]["seeds"] == [7, 8]


def test_shared_runs_are_listed_once(demo: dict[str, Any]) -> None:
    resolved = config.resolve(demo)
    separate = [config.runs(resolved, [name]) for name in config.SWEEPS]

    together = config.runs(resolved, config.SWEEPS)

    assert len(together) == len(set(together)) < sum(map(len, separate))
    assert set(together) == {run for runs in separate for run in runs}


def test_job_settings_hold_only_what_the_job_needs(demo: dict[str, Any]) -> None:
    resolved = config.resolve(demo)
    before = config.job_settings(resolved, method_name="lqf")

    unrelated = put(resolved, "training.nonlinear.epochs", 99)
    unrelated = put(unrelated, "experiments.kshot.shots", [3])
    related = put(resolved, "training.kfac_sgd.epochs", 99)

    assert config.job_settings(unrelated, method_name="lqf") == before
    assert config.job_settings(related, method_name="lqf") != before


def test_more_seeds_or_data_sets_leave_a_job_as_it_was(demo: dict[str, Any]) -> None:
    resolved = config.resolve(demo)
    arguments = {"method_name": "lqf", "experiment": "kshot"}
    before = config.job_settings(resolved, **arguments)

    more = put(resolved, "experiments.kshot.seeds", [0, 1, 2, 3])
    more = put(more, "experiments.kshot.datasets", ["greek"])

    assert config.job_settings(more, **arguments) == before
    assert "seeds" not in json.loads(before)["experiment"]


def schema_keys(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that the schema knows, with its description."""
    inner = next((one for one in node.get("anyOf", []) if one != {"type": "null"}), node)
    if "$ref" in inner:
        inner = SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]]
    if path:
        yield path, {**inner, **node}
    for key, child in inner.get("properties", {}).items():
        yield from schema_keys(child, f"{path}.{key}".lstrip("."))
    if path == "claims":
        yield from schema_keys(inner["items"], "claims[]")


def keys_of(node: object, path: str = "") -> Iterator[str]:
    if path:
        yield path
    if isinstance(node, dict):
        for key, child in node.items():
            yield from keys_of(child, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list) and path == "claims":
        for child in node:
            yield from keys_of(child, f"{path}[]")


def test_every_schema_key_is_described() -> None:
    silent = [key for key, node in schema_keys(SCHEMA) if not node.get("description")]
    silent = [key for key in silent if not key.endswith("[]")]

    assert silent == []


def test_schema_file_is_that_of_the_keys() -> None:
    file = ROOT / "workflow/schemas/config.schema.yaml"

    assert yaml.safe_load(file.read_text("utf-8")) == SCHEMA, "python -m lqf.config_keys > the file"


def test_schema_and_configuration_files_name_the_same_keys() -> None:
    known = {key for key, _ in schema_keys(SCHEMA)}
    used = {key for file in (PAPER, DEMO) for key in keys_of(config.load(file))}
    # Optional: further methods are for the user to add, sweeps may have seeds of their own, and
    # a network knows its normalisation.
    unused = {"methods", *(f"experiments.{name}.seeds" for name in config.SWEEPS)}
    unused |= {f"backbone.normalisation{key}" for key in ("", ".mean", ".deviation")}
    unused |= {"own"}  # own-data.yaml has it

    assert used | unused | {"claims[]"} == known


def test_demo_inherits_nothing_but_the_claims() -> None:
    alone = yaml.safe_load(DEMO.read_text("utf-8"))
    merged = config.load(PAPER, DEMO)

    assert {key for key in merged if key not in alone} <= {"claims"}
    assert {**alone, "claims": merged["claims"]} == merged


def test_readme_of_the_configuration_names_every_key() -> None:
    text = (ROOT / "config/README.md").read_text("utf-8")
    last = {key.rpartition(".")[2] for key, _ in schema_keys(SCHEMA) if not key.endswith("[]")}

    assert [key for key in sorted(last) if f"`{key}`" not in text] == []


def test_images_are_cut_out_of_what_is_stored(demo: dict[str, Any]) -> None:
    text = refusal(put(put(demo, "image_size", 24), "stored_size", 20))

    assert "'stored_size' is 20" in text
    assert "'image_size' 24" in text
