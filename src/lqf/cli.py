"""``python -m lqf …``: one sub-command a rule of the workflow, each usable on its own."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import shtab

from lqf import __version__, orphans


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lqf", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lqf {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print completion for a shell")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print one JSON value")
        sub.add_argument("--log", type=Path, help="also write standard error to this file")
        return sub

    def settings(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--settings", type=_json, required=True, help="settings as JSON, or @FILE")

    def paths(sub: argparse.ArgumentParser, *names: str) -> None:
        for name in names:
            sub.add_argument(f"--{name}", type=Path, required=True)

    def calling(place: str, names: str, seeded: bool = False) -> Callable[[Any], None]:
        """A sub-command that is a function of the package, given some of its options."""

        def run(options: argparse.Namespace) -> None:
            if seeded:
                importlib.import_module("lqf.run").start()
            module, _, function = place.rpartition(".")
            called = getattr(importlib.import_module(f"lqf.{module}"), function)
            called(*(getattr(options, name) for name in names.split()))

        return run

    from lqf.app import cli as app
    from lqf.data import cli as data
    from lqf.plan import cli as plan
    from lqf.report import artefacts

    app.register(command)
    data.register(command, settings)
    plan.register(command)

    run = calling("experiments.pretrain.pretrain", "activation seed data output settings", True)
    sub = command("pretrain", "train the demo backbone on its source task", run)
    sub.add_argument("--activation", choices=("relu", "leaky_relu"), required=True)
    sub.add_argument("--seed", type=int, required=True)
    paths(sub, "data", "output")
    settings(sub)

    run = calling("experiments.backbone.backbone", "activation archives output settings", True)
    sub = command("backbone", "take published weights, or those of a file", run)
    sub.add_argument("--activation", choices=("relu", "leaky_relu"), required=True)
    sub.add_argument("--archives", type=Path, help="what `download` left, for published weights")
    paths(sub, "output")
    settings(sub)

    for name, text in (
        ("train", "one method on one data set, at every point of its grid"),
        ("elr", "one method at every learning rate and batch size"),
        ("kshot", "one method with few samples a class"),
        ("online", "one method on a growing training set"),
        ("regularized", "one method with few samples a class, and with wrong labels"),
        ("summary", "an exact method on a share of its training images"),
        ("active", "an exact method on images that it chooses itself"),
    ):
        sub = command(name, text, _train)
        sub.add_argument("--dataset", required=True)
        sub.add_argument("--method", required=True)
        sub.add_argument("--seed", type=int, nargs="+", required=True)
        paths(sub, "data")
        sub.add_argument(
            "--weights", type=Path, nargs="+", required=True, help="one file, or one a seed"
        )
        sub.add_argument("--output", type=Path, nargs="+", required=True, help="one file a seed")
        settings(sub)

    sub = command("informativeness", "score samples, and remove them by score", _informativeness)
    sub.add_argument("--dataset", required=True)
    sub.add_argument("--seed", type=int, required=True)
    paths(sub, "data", "weights", "output-scores", "output-removal")
    settings(sub)

    sub = command("spectrum", "curvature before and after non-linear fine-tuning", _spectrum)
    sub.add_argument("--dataset", required=True)
    sub.add_argument("--seed", type=int, required=True)
    paths(sub, "data", "weights", "output")
    settings(sub)

    for place, text, takes in (
        ("aggregate.aggregate", "gather the runs into results", "runs output settings"),
        ("partial.partial", "show the runs that are there", "runs results figures settings"),
        ("claims.claims", "hold the paper's claims against the results", "results output settings"),
        ("draw.draw", "draw one table or figure from the results", "name results output"),
        ("captions.caption", "write the caption of a table or figure", "name results output"),
    ):
        sub = command(place.partition(".")[2], text, calling(f"report.{place}", takes))
        named = takes.split()
        if "name" in named:
            sub.add_argument("name", choices=list(artefacts.ARTEFACTS))
        paths(sub, *(one for one in named if one not in {"name", "settings"}))
        if "settings" in named:
            settings(sub)
    for name, sub in commands.choices.items():
        if sub.epilog is None:
            sub.set_defaults(writes=True)
            sub.epilog = f"example: lqf {name} {_example(sub)}"
    return parser


#: What an example of a job says for its options; `snakemake -np` prints the calls of a whole run.
_SAMPLES = {
    "activation": "leaky_relu",
    "dataset": "digits",
    "method": "lqf",
    "name": "table1",
    "seed": "0",
    "data": "data/demo/digits",
    "weights": "runs/demo/backbone/0/leaky_relu.safetensors",
    "runs": "runs/demo",
    "results": "results/demo",
    "figures": "figures/demo",
    "settings": "@settings.json",
    "output": "made/output",
    "output_scores": "made/scores.csv",
    "output_removal": "made/removal.csv",
}


#: Options that name what a job writes.
_WRITTEN = ("output", "output_scores", "output_removal", "figures")


def _example(sub: argparse.ArgumentParser) -> str:
    """A call with everything that a job needs."""
    words = []
    for action in sub._actions:
        if action.required:
            words += [*action.option_strings[-1:], _SAMPLES[action.dest]]
    return " ".join(words)


def _json(text: str) -> Any:
    try:
        return json.loads(Path(text[1:]).read_text("utf-8") if text.startswith("@") else text)
    except (ValueError, OSError, RecursionError) as error:
        raise argparse.ArgumentTypeError(
            f"is neither JSON nor @ and a file of it: {error}"
        ) from None


@contextlib.contextmanager
def _job(options: argparse.Namespace, seed: int, weights: Path, *outputs: Path) -> Iterator[None]:
    """Hold the run folder and keep states in this block; then write down what made the outputs."""
    from lqf import checkpoint, provenance, run

    folder = outputs[0].parent
    made = provenance.made_from(options.settings, options.data, weights, run.device().type)
    job = [options.command, options.dataset, getattr(options, "method", None), seed, made]
    key = provenance.digest(json.dumps(job, sort_keys=True))
    with run.locked(folder), checkpoint.kept(folder, key):
        yield
        run.write_record(folder, options.settings, made, outputs)


def _train(options: argparse.Namespace) -> None:
    from lqf import run

    run.start()
    if len(options.seed) != len(options.output):
        raise ValueError(
            f"{len(options.seed)} seeds and {len(options.output)} outputs were given; name one "
            "output for each seed."
        )
    weights = options.weights * (len(options.seed) if len(options.weights) == 1 else 1)
    if len(weights) != len(options.seed):
        raise ValueError(
            f"{len(options.seed)} seeds and {len(weights)} files of weights were given; name one "
            "file for all seeds, or one for each."
        )
    experiment = importlib.import_module(f"lqf.experiments.{options.command}")
    for seed, backbone, output in zip(options.seed, weights, options.output, strict=True):
        with _job(options, seed, backbone, output):
            rows = getattr(experiment, options.command)(
                options.method,
                options.dataset,
                seed,
                options.data,
                backbone,
                options.settings,
            )
            run.write_rows(output, rows)


def _informativeness(options: argparse.Namespace) -> None:
    from lqf import run
    from lqf.experiments import informativeness as experiment

    run.start()
    with _job(
        options, options.seed, options.weights, options.output_scores, options.output_removal
    ):
        scores, removal = experiment.informativeness(
            options.dataset, options.seed, options.data, options.weights, options.settings
        )
        run.write_rows(options.output_scores, scores, experiment.SCORE_COLUMNS)
        run.write_rows(options.output_removal, removal, experiment.REMOVAL_COLUMNS)


def _spectrum(options: argparse.Namespace) -> None:
    from lqf import run
    from lqf.experiments import spectrum as experiment

    run.start()
    with _job(options, options.seed, options.weights, options.output):
        rows = experiment.spectrum(
            options.dataset, options.seed, options.data, options.weights, options.settings
        )
        run.write_rows(options.output, rows, experiment.COLUMNS)


class _Tee(io.TextIOBase):
    """Standard error that also goes to a file; it is no terminal."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextlib.contextmanager
def _logged(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", buffering=1) as handle:
        handle.write(f"command: python -m lqf {shlex.join(sys.argv[1:])}\n")
        started = time.perf_counter()
        with contextlib.redirect_stderr(_Tee(sys.stderr, handle)):
            yield
        handle.write(f"finished in {time.perf_counter() - started:.1f} s\n")


# What to do where the system refuses, which says only what and where.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; make room and run the same command again."),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "; see that this user may read and write there."),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EROFS),
        "; correct the path, or see that its disk is there and can be written, and run the same command again.",
    ),
}


def _guarded(options: argparse.Namespace) -> int:
    """Run the sub-command; errors that a user can mend become one sentence."""
    started = time.perf_counter()
    try:
        options.run(options)
        if options.json and getattr(options, "writes", False):
            told = {name: value for name, value in vars(options).items() if name in _WRITTEN}
            told["seconds"] = round(time.perf_counter() - started, 1)
            print(json.dumps(told, default=str))
    except BrokenPipeError:
        # Whoever reads us (`| head`) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        if os.environ.get("LQF_TRACEBACK"):
            traceback.print_exc()
        hint = _REMEDIES.get(getattr(error, "errno", None) or 0, "")
        print(f"lqf {options.command}: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"lqf {options.command}: interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        arguments: the command line without the program's name; None for this process's own.

    Returns:
        0, 1 after an error that a user can mend, told in one sentence, or 130 after ctrl-C.
    """
    options = _parser().parse_args(arguments)
    if parent := os.environ.get(orphans.PARENT):
        orphans.end_with(int(parent))
    with _logged(options.log):
        return _guarded(options)
