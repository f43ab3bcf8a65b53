"""What the command line makes of a sub-command's end."""

import argparse
import json
from pathlib import Path

import pytest

from lqf import cli


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ValueError("rates is empty."), 1, "lqf train: rates is empty.\n"),
        (KeyboardInterrupt(), 130, "lqf train: interrupted.\n"),
    ],
)
def test_what_ends_a_job_is_one_sentence(
    error: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> None:
        raise error

    assert cli._guarded(argparse.Namespace(command="train", run=run)) == status
    assert capsys.readouterr().err == told


def parsers() -> dict[str, argparse.ArgumentParser]:
    actions = cli._parser()._actions
    found = next(one for one in actions if isinstance(one, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.mark.parametrize("name", parsers())
def test_help_has_an_example_that_the_parser_takes(name: str, tmp_path: Path) -> None:
    sub = parsers()[name]
    lines = [line.strip() for line in (sub.epilog or "").partition("example:")[2].splitlines()]
    (tmp_path / "settings.json").write_text("{}")
    [example] = filter(None, lines)
    words = example.replace("@settings.json", f"@{tmp_path}/settings.json").split()

    options = cli._parser().parse_args([*words[1:], "--json"])

    assert words[:2] == ["lqf", name]
    assert options.json


@pytest.mark.parametrize("settings", ["{", "@nowhere.json", f"{'[' * 9999}"])
def test_settings_that_cannot_be_read_are_one_sentence(
    settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["claims", "--results", "r", "--output", "o", "--settings", settings])

    said = capsys.readouterr().err.splitlines()[-1]
    assert "--settings: is neither JSON nor @ and a file of it" in said


def test_what_the_system_refuses_comes_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = argparse.Namespace(command="train", run=lambda _: (tmp_path / "index.csv").read_text())

    assert cli._guarded(one) == 1

    said = capsys.readouterr().err
    assert "index.csv'; correct the path, or see that its disk is there" in said


def test_a_job_tells_what_it_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    one = argparse.Namespace(
        command="claims", run=lambda _: None, json=True, writes=True, output=Path("claims.csv")
    )

    assert cli._guarded(one) == 0

    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"output", "seconds"}
    assert told["output"] == "claims.csv"


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    def run(_: argparse.Namespace) -> None:
        raise TypeError

    with pytest.raises(TypeError):
        cli._guarded(argparse.Namespace(command="train", run=run))


@pytest.mark.parametrize(
    ("weights", "outputs", "said"),
    [
        (["a", "b"], ["0.csv", "1.csv", "2.csv"], "3 seeds and 2 files of weights"),
        (["a"], ["0.csv"], "3 seeds and 1 outputs"),
    ],
)
def test_weights_are_one_file_or_one_a_seed(
    weights: list[str], outputs: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "--dataset", "digits", "--method", "lqf", "--seed", "0", "1", "2"]
    line += ["--data", "data", "--weights", *weights, "--output", *outputs, "--settings", "{}"]

    assert cli.main(line) == 1
    assert said in capsys.readouterr().err
