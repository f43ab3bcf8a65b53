"""The sub-command `plan`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[[str, str, Callable[[argparse.Namespace], None]], Any]


def register(command: Command) -> None:
    """Add the sub-command to a parser.

    Args:
        command: Makes a sub-command of a name, a help text and what it runs.
    """
    sub = command("plan", "what a run will take: jobs, download, disk, hours on a GPU", _plan)
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
    sub.add_argument("--device", help="a device of the benchmark (default: the one measured)")
    sub.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="assume a device that many times as fast as the measured one",
    )
    sub.add_argument("--times", type=Path, help="default: benchmarks/results/epoch.json")
    sub.add_argument("--json", action="store_true", help="every number, for a program")


def _plan(options: argparse.Namespace) -> None:
    import yaml

    from lqf import config as settings
    from lqf.data.published_reader import default_path, read
    from lqf.plan import summary

    path = default_path()
    root = path.resolve().parents[1]
    config = settings.load(root / "config" / "config.yaml", *options.configfile)
    for pair in options.config:
        key, separator, value = pair.partition("=")
        if not separator:
            raise settings.ConfigError(f"--config {pair!r} is not of the form KEY=VALUE.")
        config[key] = yaml.safe_load(value)
    catalogue = read(path)
    resolved = settings.resolve(config, catalogue.datasets)
    if options.speed <= 0:
        raise ValueError(f"--speed is {options.speed:g}: choose a number above 0.")
    times = options.times or root / "benchmarks" / "results" / "epoch.json"
    plan = summary.make(resolved, catalogue, times, options.device, options.speed)
    if options.json:
        print(json.dumps(plan.as_dict(), indent=1))
        return
    for line in summary.lines(plan):
        print(line)
