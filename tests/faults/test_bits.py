"""One flipped bit in a file that this package wrote: named in one sentence with the remedy, or without effect."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lqf import checkpoint, cli, provenance, run
from lqf.app import model as app_model
from lqf.app.network import Source
from lqf.app.photos import Photos
from lqf.config_sections import OwnKeys
from lqf.data.archives import MANIFEST, read_manifest
from lqf.data.folder import problems
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare_own
from lqf.files import digest_of
from lqf.fitted import stored
from lqf.networks.weights import read_state, write_state
from lqf.report import artefacts, seals
from lqf.report.claims import claims
from lqf.report.draw import draw
from lqf.ridge import Snapshot

Record = Callable[[str, object], None]
WEIGHTS = {"conv.weight": torch.randn(3, 2), "bn.num_batches_tracked": torch.tensor(7)}


def flips(file: Path, count: int) -> Iterator[int]:
    """Flip one bit after the other, each alone; yields where."""
    content = file.read_bytes()
    for place in random.Random(0).sample(range(8 * len(content)), min(count, 8 * len(content))):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        yield place
    file.write_bytes(content)


def same(found: Any, wanted: Any) -> bool:
    """Whether two trees of tensors are equal."""
    if isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (tuple, list)):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return bool(found == wanted)


def told(file: Path, read: Callable[[], Any], remedy: str, count: int = 300) -> int:
    """Read a file with each of some bits flipped; returns how many were flipped."""
    wanted = read()
    for place in flips(file, count):
        said = None
        try:
            found = read()
        except (ValueError, OSError) as error:
            said = str(error)
        # A name that nobody reads may change.
        assert same(found, wanted) if said is None else file.name in said and remedy in said, place
    return min(count, 8 * file.stat().st_size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set."""
    place = tmp_path_factory.mktemp("own")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        one = place / "images" / "train" / f"class{number % 2}" / f"{number}.png"
        one.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(one)
    own = OwnKeys(folder=str(place / "images"), test=0.3, validation=0.3)
    prepare_own("mine", own, place / "mine", 16, workers=1)
    return place / "mine"


@pytest.mark.parametrize("name", ["images.npy", "index.csv", "dataset.json"])
def test_a_flipped_bit_in_a_prepared_data_set_is_named_when_it_is_read(
    name: str, folder: Path, tmp_path: Path, record_property: Record
) -> None:
    copy = shutil.copytree(folder, tmp_path / "mine")

    def read() -> Any:
        data = PackedDataset.load(copy)
        return data.name, data.classes, data.sources, data.labels.tolist(), data.images.tolist()

    tries = told(copy / name, read, "delete the folder")

    record_property("tries", tries)


@pytest.mark.parametrize("name", ["index.csv", "dataset.json"])
def test_a_flipped_bit_in_a_prepared_data_set_is_named_before_a_workflow_starts(
    name: str, folder: Path, tmp_path: Path, record_property: Record
) -> None:
    copy = shutil.copytree(folder, tmp_path / "mine")
    unseen = 0
    assert not list(problems(copy))
    for _ in flips(copy / name, 100):
        said = list(problems(copy))
        unseen += not said
        assert all("delete the folder" in one for one in said)

    # One bit of the key that holds the file's own digest hides that digest, and nothing else.
    assert unseen <= (8 * len("hash") if name == "dataset.json" else 0)
    record_property("tries", 100)


@pytest.mark.parametrize("name", ["a.tar", MANIFEST])
def test_a_flipped_bit_in_a_downloaded_archive_or_its_manifest_is_named(
    name: str, tmp_path: Path, record_property: Record
) -> None:
    (tmp_path / "a.tar").write_bytes(b"an archive" * 9)
    digest = digest_of(tmp_path / "a.tar")
    entry = {"name": "a.tar", "path": "a.tar", "bytes": 90, "sha256": digest}
    (tmp_path / MANIFEST).write_text(json.dumps(provenance.sealed({"name": "a", "files": [entry]})))

    tries = told(tmp_path / name, lambda: read_manifest(tmp_path), "download again")

    record_property("tries", tries)


def test_a_flipped_bit_in_a_backbone_is_named(tmp_path: Path, record_property: Record) -> None:
    file = tmp_path / "relu.safetensors"
    write_state(file, WEIGHTS, {"network": "demo_resnet"})

    tries = told(file, lambda: read_state(file), str(file))

    record_property("tries", tries)


def test_a_flipped_bit_in_a_saved_model_is_named(tmp_path: Path, record_property: Record) -> None:
    file = tmp_path / "model.lqf"
    stored.write(file, WEIGHTS, {"classes": ["cat", "dog"]})

    tries = told(file, lambda: stored.read(file), "model.lqf")

    record_property("tries", tries)


def test_a_flipped_bit_in_a_model_of_photographs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    # What is inside is the file of the test above; here it is two bytes.
    kept = SimpleNamespace(
        save=lambda path: path.write_bytes(b"ab"), load=lambda path, _: Path(path).read_bytes()
    )
    monkeypatch.setattr(app_model, "LQF", kept)
    monkeypatch.setattr(app_model, "architecture", lambda name: (None, None))
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    photos = Photos(("a.jpg",), pixels, np.zeros(1, dtype=np.int64), ("train",), ("0f",), ("cat",))
    file = tmp_path / "model.lqf"
    app_model.PhotoModel(kept, Source("resnet18"), photos, 1.0).save(file)

    def read() -> object:
        found = app_model.PhotoModel.load(file)
        return repr((found.lqf, found.source, found.spread, found.history, found.photos))

    tries = told(file, read, "lqf fit", 1000)

    record_property("tries", tries)


def test_a_flipped_bit_in_a_state_or_a_kept_grid_point_costs_that_work_alone(
    tmp_path: Path, record_property: Record, caplog: pytest.LogCaptureFixture
) -> None:
    result, snapshot = {"test_err": 1 / 3}, Snapshot({"delta": torch.randn(8)}, {"epoch": 3})
    caplog.set_level("INFO")
    with checkpoint.kept(tmp_path, "job") as folder:
        points = checkpoint.Points("grid")
        points.put(0.1, result)
        points.state(0.2).keep(snapshot)
        for place in flips(next(folder.glob("*.point")), 100):
            caplog.clear()
            assert points.get(0.1) == result or "begins anew" in caplog.text, place
        for place in flips(next(folder.glob("*.safetensors")), 100):
            caplog.clear()
            kept = points.state(0.2).load()
            if kept is None:
                assert "begins anew" in caplog.text, place
            else:
                assert same(kept.tensors, snapshot.tensors), place
    record_property("tries", 200)


def test_a_flipped_bit_in_the_rows_of_a_run_or_its_record_is_named(
    tmp_path: Path, record_property: Record
) -> None:
    file = tmp_path / "metrics.csv"
    run.write_rows(file, [{"dataset": "digits", "seed": 0, "test_err": 100 / 3}])
    run.write_record(tmp_path, {"scale": "demo"}, {"version": 1}, [file])

    tries = told(file, lambda: provenance.read(file), "delete it and run its job again")
    record = tmp_path / provenance.RECORD
    tries += told(record, lambda: provenance.read(file), "delete it and run its job again")

    record_property("tries", tries)


def test_a_flipped_bit_in_aggregated_results_is_named_by_claims_figures_and_page(
    tmp_path: Path, record_property: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    results = shutil.copytree(Path(__file__).parents[2] / "results" / "demo", tmp_path / "results")
    for experiment, names in artefacts.AGGREGATED.items():
        seals.seal(results, experiment, names)
    claims(results, results / artefacts.CLAIMS_FILE, [])
    makers = {
        "comparison.csv": lambda: claims(results, tmp_path / "claims.csv", []),
        "informative_images.png": lambda: draw("figure6", results, tmp_path),
        "kshot.csv": lambda: draw("figure4", results, tmp_path),
    }
    for name, make in makers.items():
        for _ in flips(results / name, 5):
            with pytest.raises(seals.DamagedResults, match=rf"{name} is damaged.*delete it"):
                make()
    for _ in flips(results / artefacts.CLAIMS_FILE, 2):
        assert cli.main(["report", str(results), "--output", str(tmp_path / "page.html")]) == 1
        assert "claims.csv is damaged" in capsys.readouterr().err
    assert not list(pd.read_csv(results / artefacts.CLAIMS_FILE)["id"])
    record_property("tries", 17)
