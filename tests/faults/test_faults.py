"""What a run survives, and what is noticed and named; `kills.py` does the many tries."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

import kills
import miniature
import pandas as pd
import pytest
import yaml

from lqf import cli
from lqf.data.folder import digest_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The input of a run, with an undisturbed run under `whole`."""
    world = miniature.make(tmp_path_factory.mktemp("faults") / "world")
    whole = world.with_name("whole")
    shutil.copytree(world, whole)
    assert miniature.finish(whole) == 0, (whole / "output").read_text()[-4000:]
    whole.rename(world / "whole")
    return world


def test_a_killed_workflow_ends_with_the_bytes_of_a_whole_one(world: Path, tmp_path: Path) -> None:
    # With data and backbone there; kills.py begins from nothing.
    for name in ("data", "runs/faults/backbone"):
        shutil.copytree(world / "whole" / name, world / name, dirs_exist_ok=True)

    _, same = kills.survives(world, tmp_path / "run", signal.SIGKILL, 10.0)

    assert same, (tmp_path / "run" / "output").read_text()[-4000:]


# Each costs seconds; kills.py takes all.
NAMES = [f"set{number}" for number in range(10 if "LQF_FAULTS" in os.environ else 3)]


@pytest.fixture
def home(world: Path, tmp_path: Path) -> Iterator[Path]:
    """The workflow with another catalogue, of whose data sets all but the first are served."""
    images = world / "images/one/train"
    found = {path.relative_to(images).parent.as_posix() for path in images.rglob("*.png")}
    totals = {name: len(list((images / name).iterdir())) for name in sorted(found)}
    (tmp_path / "served").mkdir()
    archive = Path(shutil.make_archive(str(tmp_path / "served" / "images"), "zip", images))
    handler = partial(SimpleHTTPRequestHandler, directory=archive.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        # Nobody listens at the port that was free a moment ago.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            dead = free.getsockname()[1]
        for name in ("workflow", "config", "profiles"):
            shutil.copytree(miniature.ROOT / name, tmp_path / "home" / name)
        shutil.copy(miniature.ROOT / "Snakefile", tmp_path / "home")
        catalogue = tmp_path / "home/config/datasets.yaml"
        weights = yaml.safe_load(catalogue.read_text("utf-8"))["weights"]
        datasets = {}
        for name in NAMES:
            port = dead if name == NAMES[0] else server.server_port
            file = {
                "name": archive.name,
                "bytes": archive.stat().st_size,
                "sha256": digest_of(archive),
                "unpacked": 10**6,
                "urls": [f"http://127.0.0.1:{port}/{archive.name}"],
            }
            datasets[name] = {
                **dict.fromkeys(("title", "citation", "licence"), name),
                "group": "coarse",
                "classes": len(totals),
                "class_totals": totals,
                "images": {"train": None, "test": None},
                "layout": "class_folders",
                **{key: {"rule": "fraction", "test": 0.3} for key in ("split", "validation")},
                "take": ["*/*.png"],
                "parts": {"images": [[file]]},
            }
        catalogue.write_text(yaml.safe_dump({"datasets": datasets, "weights": weights}))
        settings = copy.deepcopy(miniature.CONFIG)
        settings |= {"datasets": NAMES, "own": {}}
        settings["experiments"]["comparison"]["datasets"] = NAMES
        settings["training"]["nonlinear"] |= {"rates": [0.01], "epochs": 1}
        (tmp_path / "home" / "mine.yaml").write_text(yaml.safe_dump(settings))
        shutil.copy(world / "weights.safetensors", tmp_path / "home")
        yield tmp_path / "home"
        server.shutdown()


def test_a_dead_mirror_costs_the_runs_of_its_own_data_set_only(home: Path) -> None:
    code = miniature.finish(home, "--snakefile", str(home / "Snakefile"))

    output = (home / "output").read_text()
    assert code != 0
    trained = {path.parts[-4:-2] for path in home.glob("runs/faults/train/*/*/0/metrics.csv")}
    assert trained == {*product(NAMES[1:], ("nlft", "fc"))}, output[-4000:]
    shown = home / "results/faults_partial"
    missing = pd.read_csv(shown / "missing.csv")
    assert missing["dataset"].tolist() == 2 * NAMES[:1]
    assert missing["why"].str.startswith("lqf download: the part 'images' of data set 'set0'").all()
    assert "put images.zip" in missing["why"][0]
    comparison = pd.read_csv(shown / "comparison.csv")
    assert {*comparison["dataset"]} == {*NAMES[1:]}
    assert {*comparison["partial"]} == {"2 runs are missing"}
    assert set(pd.read_csv(shown / "claims.csv")["verdict"]) == {"not tested"}
    assert "Partial" in (home / "figures/faults_partial/table1.rst").read_text("utf-8")
    assert "set0" in (shown / "report.html").read_text("utf-8")
    assert not (home / "results/faults").exists()


def planned(folder: Path) -> set[str]:
    """Rules that the workflow would run."""
    (folder / "output").unlink(missing_ok=True)
    assert miniature.finish(folder, "--dry-run") == 0, (folder / "output").read_text()
    return set(re.findall(r"^([a-z_]+) +\d+$", (folder / "output").read_text(), re.MULTILINE))


@pytest.mark.parametrize("times", [(1e9, 1e9), (4e9, 4e9), (1e9, 4e9)])
def test_a_clock_that_jumped_makes_no_training_run_again(
    times: tuple[float, float], world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(world / "whole", folder)
    moments = random.Random(0)
    for place in ("data", "runs", "results"):
        for file in sorted((folder / place).rglob("*")):
            os.utime(file, (moment := moments.uniform(*times), moment))

    rules = planned(folder)

    assert rules <= {"total", "results", "aggregate_comparison", "claims"}


def test_an_image_that_another_one_replaces_is_prepared_again_however_old_it_is(
    world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(world / "whole", folder)
    images = folder / "images/one/train"
    shutil.copyfile(images / "class0/0.png", images / "class0/1.png")
    os.utime(images / "class0/1.png", (1e9, 1e9))

    rules = planned(folder)

    assert {"prepare", "train"} <= rules


@pytest.mark.parametrize("name", ["metrics.csv", "run.json"])
def test_a_flipped_bit_in_a_result_is_noticed_and_named(
    name: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "whole" / "runs", tmp_path / "runs")
    file = tmp_path / "runs/faults/train/one/nlft/0" / name
    content = file.read_bytes()
    settings = json.dumps({"experiments": miniature.CONFIG["experiments"], "seeds": [0]})
    command = ["aggregate", "--runs", str(tmp_path / "runs/faults"), "--settings", settings]
    command += ["--output", str(tmp_path / "results")]
    assert cli.main(command) == 0
    capsys.readouterr()
    # A digit of a number, wherever that is: another digit after it.
    place = next(
        n for n, byte in enumerate(content) if n > len(content) // 3 and chr(byte) in "2468"
    )
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])

    assert cli.main(command) == 1

    said = capsys.readouterr().err
    assert str(file.parent) in said
    assert "delete it and run its job again" in said


def test_a_second_workflow_in_the_folder_is_kept_out(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "run", ignore=shutil.ignore_patterns("whole"))
    first = miniature.start(tmp_path / "run")
    try:
        locks = tmp_path / "run/.snakemake/locks"
        while not (locks.is_dir() and any(locks.iterdir())):
            assert first.poll() is None, (tmp_path / "run/output").read_text()
            time.sleep(0.1)
        second = miniature.start(tmp_path / "run")

        assert second.wait(120) != 0
        assert "cannot be locked" in (tmp_path / "run/output").read_text()
        assert first.poll() is None
    finally:
        miniature.end(first, signal.SIGKILL)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="mounting needs root")
def test_a_full_disk_is_one_sentence(world: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    settings = json.dumps({"experiments": miniature.CONFIG["experiments"], "seeds": [0]})
    script = (
        'mount -t tmpfs -o size=4k none "$1/full" || exit 77; head -c 4096 /dev/zero >"$1/full/filler"; '
        'python -m lqf aggregate --runs "$2" --output "$1/full" --settings "$3"; echo "code $?"; '
        'ls -A "$1/full"'
    )

    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "-", tmp_path, world / "whole/runs/faults", settings],
        text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip

    if done.returncode == 77:
        pytest.skip("no tmpfs can be mounted here")
    assert "code 1\nfiller\n" in done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
