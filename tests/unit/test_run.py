import csv
import json
import multiprocessing
from pathlib import Path

import pytest

from lqf import run


def _hold(folder: Path, ready, release) -> None:
    with run.locked(folder):
        ready.set()
        release.wait(20)


def test_a_run_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(run.RunLocked, match="in use by another process"), run.locked(tmp_path):
            pass
    finally:
        release.set()
        holder.join(20)
    with run.locked(tmp_path):
        pass


def test_killed_holder_frees_the_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(60)
    holder.kill()
    holder.join(20)

    with run.locked(tmp_path):
        pass


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run.write_rows(path, [{"dataset": "digits", "seed": 0, "test_err": 1 / 3}])
    before = path.read_bytes()

    with pytest.raises(ValueError, match="unheard_of"):
        run.write_rows(path, [{"dataset": "digits"}, {"unheard_of": 1}])

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]
    with open(path, newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert row["test_err"] == "0.3333333333"
    assert list(row) == list(run.COLUMNS)


def test_record_names_settings_and_versions(tmp_path: Path) -> None:
    run.write_record(tmp_path, {"scale": "demo"})

    record = json.loads((tmp_path / "run.json").read_text())

    assert record["settings"] == {"scale": "demo"}
    assert {"torch", "python", "command", "device", "threads"} <= set(record)


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_DEVICE", "tpu")
    with pytest.raises(ValueError, match=r"LQF_DEVICE is 'tpu'.*allowed are auto"):
        run.device()

    monkeypatch.setenv("LQF_DEVICE", "cpu")
    assert run.device().type == "cpu"
