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


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    def run(_: argparse.Namespace) -> None:
        raise TypeError

    with pytest.raises(TypeError):
        cli._guarded(argparse.Namespace(command="train", run=run))
