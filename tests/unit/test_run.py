import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lqf import provenance, run

HOLD = """
import sys
from pathlib import Path
from lqf import run
with run.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_folder_has_one_user_at_a_time(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(run.RunLocked, match="in use by another process"), run.locked(tmp_path):
        pass

    holder.communicate()
    with run.locked(tmp_path):
        pass


def test_killed_holder_frees_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(20)

    with run.locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, no_locks: None, caplog: pytest.LogCaptureFixture
) -> None:
    with run.locked(tmp_path):
        pass

    assert "knows no locks (No locks available)" in caplog.text


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


def test_record_names_settings_versions_and_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run.write_rows(path, [{"dataset": "digits", "seed": 0}])
    run.write_record(tmp_path, {"scale": "demo"}, {"version": 1}, [path])

    record = json.loads((tmp_path / "run.json").read_text())

    assert record["settings"] == {"scale": "demo"}
    assert {"torch", "python", "command", "device", "processor", "threads"} <= set(record)
    assert provenance.read(path) == {"version": 1, "processor": record["processor"]}
    path.write_text(path.read_text() + " ")
    with pytest.raises(provenance.WrongRecord, match="its hash is another"):
        provenance.read(path)


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_DEVICE", "tpu")
    with pytest.raises(ValueError, match=r"LQF_DEVICE is 'tpu'.*allowed are auto"):
        run.device()

    monkeypatch.setenv("LQF_DEVICE", "cpu")
    assert run.device().type == "cpu"
