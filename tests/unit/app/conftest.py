"""One fitted model for the tests that ask it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import photographs
import pytest

from lqf.cli import main

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs.write_weights(tmp_path_factory.mktemp("weights") / "squeezenet.pth")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs.write_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def network(weights: Path) -> list[str]:
    """The options that name the network."""
    size = str(photographs.SIZE)
    return ["--network", photographs.NETWORK, "--weights", str(weights), "--size", size]


@pytest.fixture(scope="session")
def fitted(photos: Path, network: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.lqf"
    assert main(["fit", str(photos), "-o", str(path), *network]) == 0
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a sub-command with --json and returns what it says."""

    def command(*arguments: object) -> Any:
        capsys.readouterr()
        status = main([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    return command
