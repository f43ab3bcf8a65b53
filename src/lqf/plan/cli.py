"""The sub-command `plan`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lqf.plan.machine import GPUS, UTILISATION, Machine, on_gpu, on_this_machine, operations

Command = Callable[[str, str, Callable[[argparse.Namespace], None]], Any]


def register(command: Command) -> None:
    """Add the sub-command to a parser."""
    sub = command("plan", "what a run will take: jobs, download, disk, hours on a GPU", _plan)
    sub.epilog = "example: lqf plan --configfile config/demo.yaml"
    sub.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="laid over config/config.yaml, as for snakemake",
    )
    sub.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="plain values, as for snakemake",
    )
    sub.add_argument("--device", help="a device of the benchmark, as it names them")
    where = sub.add_mutually_exclusive_group()
    where.add_argument(
        "--measure", action="store_true", help="hours for this machine, measured for about a minute"
    )
    where.add_argument(
        "--gpu", help=f"counted for a GPU: {', '.join(GPUS)}, or its peak in TFLOP/s"
    )
    sub.add_argument(
        "--utilisation",
        type=float,
        default=UTILISATION,
        help="share of the peak that --gpu reaches (default: %(default)s)",
    )
    sub.add_argument("--times", type=Path, help="default: benchmarks/results/epoch.json")


def _plan(options: argparse.Namespace) -> None:
    import yaml

    from lqf import config as settings
    from lqf.data.published import default_path, read
    from lqf.plan import summary

    path = default_path()
    root = path.resolve().parents[1]
    config = settings.load(root / "config" / "config.yaml", *options.configfile)
    for pair in options.config:
        key, separator, value = pair.partition("=")
        if not separator:
            raise settings.ConfigError(f"--config {pair!r} is not of the form KEY=VALUE.")
        try:
            config[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise settings.ConfigError(f"--config {pair!r} has no plain value after '='.") from None
    catalogue = read(path)
    resolved = settings.resolve(config, catalogue.datasets)
    times = options.times or root / "benchmarks" / "results" / "epoch.json"
    plan = summary.make(resolved, catalogue, times, options.device, _machine(options))
    whole = json.dumps(dataclasses.asdict(plan), indent=1) if options.json else summary.text(plan)
    print(whole)


def _machine(options: argparse.Namespace) -> Machine | None:
    if options.measure:
        return lambda network, pixels, _: on_this_machine(network, pixels)
    if (gpu := options.gpu) is None:
        return None
    share = options.utilisation
    on_gpu(1.0, gpu, share)  # What is wrong is told before anything is counted.
    return lambda network, pixels, known: on_gpu(known or operations(network, pixels), gpu, share)
