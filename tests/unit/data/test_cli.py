import argparse
import hashlib
import json
import signal

import numpy as np
import pytest
import yaml
from fault_server import fault_server
from miniatures import BUILDERS
from PIL import Image

from lqf.data import cli
from lqf.data.packed import PackedDataset
from lqf.data.published import default_path


@pytest.fixture(autouse=True)
def signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(*arguments):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()

    def command(name, text, function):
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(run=function)
        sub.add_argument("--json", action="store_true")
        return sub

    cli.register(command, lambda sub: sub.add_argument("--settings", type=json.loads))
    options = parser.parse_args([str(one) for one in arguments])
    options.run(options)


@pytest.fixture
def catalogue(tmp_path):
    """The catalogue, with the flowers served by a server that runs during the test."""
    built = tmp_path / "built"
    built.mkdir()
    BUILDERS["stanford_cars"](built, 10)
    content = yaml.safe_load(default_path().read_text("utf-8"))
    entry = content["datasets"]["stanford_cars"]
    entry.update(images={"train": 814, "test": 804}, per_class={"train": [2, 7]})
    del entry["found"]
    with fault_server() as server:
        for part in entry["parts"].values():
            for file in part[0]:
                data = (built / file["name"]).read_bytes()
                server.files[file["name"]] = data
                digest = hashlib.sha256(data).hexdigest() if file["sha256"] else None
                file.update(bytes=len(data), sha256=digest, urls=[server.url(file["name"])])
                file.pop("md5", None)
        path = tmp_path / "datasets.yaml"
        path.write_text(yaml.safe_dump(content))
        yield path


def test_from_the_catalogue_to_the_packed_form(catalogue, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "stanford_cars"
    with pytest.raises(
        ValueError, match=r"lacks the part 'images' and 'labels': run `python -m lqf"
    ):
        run("datasets", "check", name, "--catalogue", catalogue)
    assert "missing stanford-cars.tgz (images, choice 1): " in capsys.readouterr().out

    run("download", "--name", name, "--output", f"archives/{name}", "--catalogue", catalogue)
    assert f"{name}/stanford-cars.tgz" in (tmp_path / "datasets.lock.json").read_text()
    run("datasets", "check", name, "--catalogue", catalogue)
    assert "ok      stanford-cars.tgz" in capsys.readouterr().out

    output, settings = tmp_path / "data" / "paper" / name, '{"image_size": 16}'
    options = ("--output", output, "--catalogue", catalogue, "--settings", settings)
    run("prepare", "--name", name, *options, "--workers", "1")
    assert len(PackedDataset.load(output).classes) == 196

    run("datasets", "--catalogue", catalogue)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines[name].endswith("prepared")
    assert lines["flowers102"].endswith("to download")
    assert lines["mit67"].endswith("to download from a mirror, may ask for an account")
    assert "1.18 GB" in lines["caltech256"]
    run("datasets", "--catalogue", catalogue, "--json")
    assert json.loads(capsys.readouterr().out)[name] == "prepared"
    run("datasets", "check", name, "--catalogue", catalogue, "--json")
    assert json.loads(capsys.readouterr().out)["missing"] == []


def test_archives_on_disk_need_no_network(catalogue, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LQF_DATA", str(tmp_path / "built"))
    arguments = ("--name", "stanford_cars", "--output", "archives", "--catalogue", catalogue)
    run("download", "--offline", *arguments)
    run("datasets", "list", "--catalogue", catalogue)
    assert "on disk, not yet verified" in capsys.readouterr().out


def test_a_demo_data_set_and_own_data_take_the_same_way(tmp_path):
    settings = '{"image_size": 16}'
    run("prepare", "--name", "digits", "--output", tmp_path / "digits", "--settings", settings)
    assert len(PackedDataset.load(tmp_path / "digits").labels) == 1797

    for name in ("a", "b"):
        (tmp_path / "mine" / "train" / name).mkdir(parents=True)
        for n in range(5):
            pixels = np.full((9, 9, 3), n, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / "train" / name / f"{n}.png")
    settings = json.dumps({"image_size": 16, "own": {"folder": str(tmp_path / "mine")}})
    run("prepare", "--name", "mine", "--output", tmp_path / "out", "--settings", settings)
    assert PackedDataset.load(tmp_path / "out").classes == ("a", "b")


def test_an_unknown_name_is_refused(catalogue, tmp_path):
    arguments = ("--output", tmp_path / "out", "--catalogue", catalogue)
    with pytest.raises(ValueError, match="unknown data set 'digitz'"):
        run("prepare", "--name", "digitz", *arguments, "--settings", '{"image_size": 16}')
    with pytest.raises(ValueError, match="name the data set to check"):
        run("datasets", "check", "--catalogue", catalogue)
