"""`lqf plan` beside what Snakemake plans."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from lqf.data.status import gigabytes

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
CONFIGS = {
    "paper": [],
    "demo": ["--configfile", "config/demo.yaml"],
    "mini": ["--configfile", "config/demo.yaml", "tests/workflow/mini.yaml"],
    "own": ["--configfile", "config/own-data.yaml"],
    "one experiment": ["--configfile", "config/demo.yaml", "--config", "only=kshot"],
}


def lqf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    files = [str(ROOT / one) if one.endswith(".yaml") else one for one in arguments]
    return subprocess.run(
        [sys.executable, "-m", "lqf", "plan", *files],
        cwd=folder, text=True, capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def own_images(tmp_path: Path) -> None:
    """What config/own-data.yaml expects: two classes of ten images."""
    for number in range(20):
        file = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)


@pytest.mark.parametrize("name", CONFIGS)
def test_jobs_are_those_that_snakemake_plans(name: str, snakemake: Run, tmp_path: Path) -> None:
    files = [str(ROOT / one) if one.endswith(".yaml") else one for one in CONFIGS[name]]
    dry = snakemake("-n", "--quiet", "rules", *files).stdout
    table = dry.partition("Job stats:")[2].partition("\n\n")[0]
    wanted = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}

    plan = json.loads(lqf(tmp_path, *CONFIGS[name], "--json").stdout)

    assert wanted.pop("total") == sum(wanted.values())
    assert plan["jobs"] == wanted
    if name == "own":
        # Of ten images of each class, two are for testing, and one of eight for validation.
        assert plan["images"] == {"mine": {"train": 14, "val": 2, "test": 4, "classes": 2}}


def test_paper_scale_names_what_a_person_has_to_do(tmp_path: Path) -> None:
    done = lqf(tmp_path)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^  flowers102 +345 MB$", done.stdout, re.MULTILINE)
    assert "indoor-scenes-cvpr-2019.zip: may ask for an account" in done.stdout
    assert "LQF_DATA" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 130


def test_the_documentation_has_the_numbers_of_paper_scale(tmp_path: Path) -> None:
    plan = json.loads(lqf(tmp_path, "--json").stdout)
    text = (ROOT / "docs" / "reproduce.md").read_text("utf-8")

    assert f"{sum(plan['jobs'].values())} jobs" in text
    assert f"Archives take {gigabytes(plan['archives'])}" in text
    assert f"prepared images {gigabytes(plan['packed'])}" in text
    assert sum(len(one["by_hand"]) for one in plan["downloads"]) == 2
    for one in plan["downloads"]:
        if one["by_hand"]:
            assert f"`archives/{one['name']}`" in text


def test_paper_scale_says_what_has_no_second_source(tmp_path: Path) -> None:
    text = " ".join(lqf(tmp_path).stdout.split())

    assert "stanford_dogs (lists)" in text
    assert "set backbone.weights.leaky_relu: swap" in text
    assert "Hours: counted, not measured: 8.17 GFLOP an image forward" in text


def test_hours_follow_the_gpu_that_is_asked_for(tmp_path: Path) -> None:
    def total(*arguments: str) -> float:
        plan = json.loads(lqf(tmp_path, "--json", *arguments).stdout)
        return sum(one["hours"] for one in plan["hours"])

    usual = total()
    assert total("--gpu", "39", "--utilisation", "0.4") == pytest.approx(usual / 2)
    assert total("--device", "CPU, 1 thread, x86_64 AVX512") > 50 * usual


def test_own_images_are_listed_anew_and_what_is_not_used_is_told(tmp_path: Path) -> None:
    prepared = tmp_path / "data" / "own" / "mine"
    prepared.mkdir(parents=True)
    stale = {"images": {"train": 1, "val": 1, "test": 1}, "classes": ["a", "b"]}
    (prepared / "dataset.json").write_text(json.dumps(stale))
    (tmp_path / "images" / "train" / "a" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "images" / "train" / "a" / "f.heic").write_bytes(b"\0\0\0\x18ftypheic")

    done = lqf(tmp_path, *CONFIGS["own"])

    assert "20 images of 224 pixels" in done.stdout, done.stderr
    assert (
        "mine: 1 × HEIC images, which have to be saved as JPEG (first train/a/f.heic)"
        in done.stdout
    )
    assert "mine: 1 × hidden files and folders" in done.stdout
    (tmp_path / "images" / "train" / "a" / "0.png").unlink()
    (tmp_path / "images" / "train" / "a" / "0.png").symlink_to("gone.png")
    done = lqf(tmp_path, *CONFIGS["own"])
    assert done.returncode == 1
    assert "0.png is a link to 'gone.png', which is not there" in done.stderr


@pytest.mark.parametrize(
    ("value", "said"),
    [("only=kshoot", "did you mean 'kshot'?"), ("scale=[", "'scale=[' has no plain value")],
)
def test_a_bad_configuration_is_one_sentence(value: str, said: str, tmp_path: Path) -> None:
    done = lqf(tmp_path, "--config", value)

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a.weight": torch.zeros(3)}, "not those of this network: of its"),
        (b"<html>log in</html>", "mine.safetensors is no file of weights"),
    ],
)
def test_weights_that_do_not_fit_the_network_are_told(
    content: dict[str, torch.Tensor] | bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(content if isinstance(content, bytes) else save(content))
    weights = dict.fromkeys(("relu", "leaky_relu"), str(file))
    overlay = {"backbone": {"network": "demo_resnet", "weights": weights, "pretrain": None}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))

    done = lqf(tmp_path, "--configfile", "config/demo.yaml", str(tmp_path / "mine.yaml"))

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
