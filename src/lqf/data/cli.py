"""The sub-commands that deal with data: prepare, download, datasets."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

Command = Callable[[str, str, Callable[[argparse.Namespace], None]], Any]


def register(command: Command, settings: Callable[[Any], None]) -> None:
    """Add the sub-commands to a parser."""
    sub = command("prepare", "render or decode a data set into its packed form", _prepare)
    sub.epilog = "example: lqf prepare --name digits --output data/digits --settings @settings.json"
    sub.set_defaults(writes=True)
    sub.add_argument("--name", required=True, help="name in the demo, the catalogue, or own data")
    sub.add_argument("--output", type=Path, required=True, help="folder for the packed form")
    sub.add_argument("--archives", type=Path, help="what `download` left (data sets of the paper)")
    sub.add_argument("--workers", type=int, help="processes that decode (default: every core)")
    sub.add_argument("--catalogue", type=Path, help="default: config/datasets.yaml")
    settings(sub)

    sub = command(
        "download", "get the archives of a data set, or published weights, verified", _download
    )
    sub.epilog = "example: lqf download --name mit67 --output archives/mit67"
    sub.set_defaults(writes=True)
    sub.add_argument("--name", required=True, help="a data set, or NETWORK.SOURCE for weights")
    sub.add_argument("--output", type=Path, required=True, help="folder for the archives")
    sub.add_argument("--offline", action="store_true", help="use only what is on disk")
    sub.add_argument("--catalogue", type=Path, help="default: config/datasets.yaml")

    sub = command("datasets", "list the data sets of the paper, or check what is here", _datasets)
    sub.epilog = "example: lqf datasets check mit67"
    sub.add_argument("action", nargs="?", choices=("list", "check"), default="list")
    sub.add_argument("name", nargs="?", help="the data set to check")
    sub.add_argument("--archives", type=Path, default=Path("archives"))
    sub.add_argument("--data", type=Path, default=Path("data", "paper"))
    sub.add_argument("--catalogue", type=Path, help="default: config/datasets.yaml")


def _prepare(options: argparse.Namespace) -> None:
    _stop_cleanly()
    settings = options.settings
    size = settings["image_size"]
    from lqf.data import catalogue, prepare

    if (own := settings.get("own")) is not None:
        from lqf import documents
        from lqf.config_sections import OwnKeys

        data = documents.validated(OwnKeys, own, "own data key")
        prepare.prepare_own(options.name, data, options.output, size, options.workers)
    elif options.name in catalogue.DEMO:
        prepare.prepare(options.name, options.output, size)
    else:
        from lqf.data.published import read

        dataset = read(options.catalogue).get(options.name)
        archives = options.archives or Path("archives", options.name)
        prepare.prepare_published(dataset, archives, options.output, size, options.workers)


def _download(options: argparse.Namespace) -> None:
    _stop_cleanly()
    from lqf.data.archives import local_folders, lock_file, obtain
    from lqf.data.published import default_path, find_weights, read

    path = options.catalogue or default_path()
    catalogue = read(path)
    obtain(
        find_weights(catalogue, options.name)
        if "." in options.name
        else catalogue.get(options.name),
        options.output,
        local=local_folders(),
        lock=lock_file(path),
        offline=options.offline,
    )


def _datasets(options: argparse.Namespace) -> None:
    from lqf.data import status
    from lqf.data.archives import local_folders, lock_file
    from lqf.data.published import default_path, read

    path = options.catalogue or default_path()
    catalogue = read(path)
    local = local_folders()
    if options.action == "list":
        places = options.archives, local, options.data
        if options.json:
            known = catalogue.datasets.items()
            print(json.dumps({name: status.state(one, *places) for name, one in known}))
            return
        for line in status.overview(catalogue, *places):
            print(line)
        return
    if options.name is None:
        raise ValueError(f"name the data set to check, one of {', '.join(catalogue.datasets)}.")
    dataset = catalogue.get(options.name)
    lines, missing = status.check(dataset, options.archives, local, lock_file(path))
    print(json.dumps({"files": lines, "missing": missing}) if options.json else "\n".join(lines))
    if missing:
        raise ValueError(
            f"{dataset.name!r} lacks the part {' and '.join(map(repr, missing))}: run `python -m lqf "
            f"download --name {dataset.name} --output {options.archives / dataset.name}`, or put the "
            "files into that folder or one that LQF_DATA names."
        )


def _stop_cleanly() -> None:
    """Let a termination remove what is half written, as an interruption from the keyboard does."""

    def stop(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
