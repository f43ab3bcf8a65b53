"""What the command line makes of a sub-command's end."""

import argparse

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


def test_help_has_an_example_and_what_prints_data_prints_json() -> None:
    jobs = {"prepare", "download", "pretrain", "backbone", "train", "elr", "kshot", "online"}
    jobs |= {"regularized", "informativeness", "spectrum", "aggregate", "partial", "claims"}
    jobs |= {"draw", "caption"}
    actions = cli._parser()._actions
    found = next(one for one in actions if isinstance(one, argparse._SubParsersAction))
    assert jobs < set(found.choices)
    for name, sub in found.choices.items():
        assert (sub.epilog or "").startswith("example"), name
        assert ("--json" in sub.format_help()) == (name not in jobs), name


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
