import json

import pytest
import torch
from benchmarks import epoch
from benchmarks.run import run


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def in_this_process(function, *arguments):
    return function(*arguments)


def test_every_kind_of_method_runs_and_is_reported(monkeypatch, tmp_path):
    """One of each kind, at the size of a try-out; the columns are those `lqf plan` reads."""
    monkeypatch.setattr(epoch, "isolated", in_this_process)
    groups = (("nlft",), ("lqf_fc",), ("gaf",), ("lqf", "lqf_exact"), ("b_lqf",))
    monkeypatch.setattr(epoch, "GROUPS", groups)

    path = run("epoch", tmp_path, small=True)

    rows = json.loads(path.read_text())["rows"]
    assert [row["method"] for row in rows] == [name for group in groups for name in group]
    for row in rows:
        assert row["seconds_per_image_pass"] > 0
        assert row["images_per_s"] == pytest.approx(1 / row["seconds_per_image_pass"])
        assert {"network", "image_size", "batch", "device", "peak_bytes"} <= row.keys()
    by_method = {row["method"]: row for row in rows}
    setup = "setup_seconds_per_image"
    assert by_method["gaf"][setup] < by_method["lqf"][setup]
    report = path.with_suffix(".md").read_text()
    assert all(f"| {row['method']} |" in report for row in rows)
    assert path.with_suffix(".png").stat().st_size > 0


def test_rows_of_another_device_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(epoch, "isolated", in_this_process)
    monkeypatch.setattr(epoch, "GROUPS", (("fc",),))
    monkeypatch.setattr(epoch, "FULL", {"cpu": epoch.SMALL, "cuda": epoch.SMALL})
    monkeypatch.setattr(epoch, "RESULT", tmp_path / "epoch.json")
    other = {"device": "another", "method": "fc", "seconds_per_image_pass": 1.0}
    (tmp_path / "epoch.json").write_text(json.dumps({"rows": [other]}))

    rows = epoch.measure()

    assert rows[0] == other
    assert len(rows) == 2
