"""The plan of one configuration, as data and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from pathlib import Path
from typing import Any

from lqf import backbones
from lqf import config as settings
from lqf.amounts import Images, images_of
from lqf.config_sections import OwnKeys
from lqf.data.own import list_own
from lqf.data.published import Catalogue, File, Published, Weights
from lqf.data.status import gigabytes
from lqf.pages import render
from lqf.plan import jobs, times, work
from lqf.plan.machine import DEFAULT_GPU, Machine, on_gpu
from lqf.plan.times import Hours, Measured
from lqf.plan.work import Work

_WIDTH = 100
_SWAP = (
    ", or set backbone.weights.leaky_relu: swap, which puts the leaky ReLU into the ReLU's weights and takes "
    "new statistics of batch norm (a deviation from the paper, which the report declares)"
)


@dataclass(frozen=True)
class Fetched:
    """One thing that is downloaded: its bytes as far as known, and files whose size is not.

    Besides, a sentence for what may have to be put in place by hand, and parts with a single address.
    """

    name: str
    bytes: int
    unknown: tuple[str, ...]
    by_hand: tuple[str, ...]
    single: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        pixels: Side of the images that the network sees.
        jobs: Rule -> number of jobs in an empty folder.
        images: Data set -> its numbers of images.
        left_out: Data set of the user -> why files of it are not used -> how many.
        archives: Bytes of the archives, as far as known.
        unpacking: Bytes that one data set may take while it is prepared.
        stored: Side of the prepared images.
        packed: Bytes of the prepared data sets.
        measured: Times that the estimate rests on; empty where none fits.
        hours: Time of the work, on one device.
        unknown: Work for which no time is measured.
        no_times: Why there is no time at all, or empty.
        source: The file with the times.
        speed: How many times as fast as the measured device the one is that the hours are for.
        basis: What the hours are for, and how they came about.
    """

    scale: str
    network: str
    pixels: int
    jobs: Mapping[str, int]
    images: Mapping[str, Images]
    left_out: Mapping[str, Mapping[str, int]]
    downloads: Sequence[Fetched]
    archives: int
    unpacking: int
    stored: int
    packed: int
    work: Sequence[Work]
    measured: Sequence[Measured]
    hours: Sequence[Hours]
    unknown: Sequence[Work]
    no_times: str
    source: str
    speed: float
    basis: str


def fetched(one: Published | Weights, folder: str, *, leaky: bool = False) -> Fetched:
    """What the best choice of each part with an address takes.

    `folder` is where archives may be put; weights for the leaky ReLU may be put into others instead.
    """
    sentences, single = [], []
    for part, choices in one.parts.items():
        surely = [all(file.urls and not file.caution for file in choice) for choice in choices]
        if not any(surely):
            reasons = [f"{file.name}: {_reason(file)}" for choice in choices for file in choice]
            wanted = " or ".join(" and ".join(file.name for file in choice) for choice in choices)
            sentences.append(
                f"{one.name}, {part}: {'; '.join(reasons)}. If the download fails, put {wanted} into "
                f"{folder}/{one.name} or into a folder that LQF_DATA names{_SWAP if leaky else ''}."
            )
        addresses = [len(file.urls) for choice in choices for file in choice]
        alive = sum(all(file.urls for file in choice) for choice in choices)
        if isinstance(one, Published) and max(addresses) == alive == 1:
            single.append(part)
    unknown = tuple(file.name for file in one.best if file.bytes is None)
    return Fetched(one.name, one.download_bytes, unknown, tuple(sentences), tuple(single))


def _reason(file: File) -> str:
    if file.caution:
        return file.caution
    return f"no address any more ({'; '.join(file.dead.values())})" if not file.urls else "has one"


def make(
    config: Mapping[str, Any],
    catalogue: Catalogue,
    source: Path,
    device: str | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Work a plan out.

    Hours are for a measured `device` (by the file `source`) or another `machine`; without either, for a
    GPU of today where only a CPU was measured.
    """
    names = jobs.datasets(config)
    data = Path(config["data_folder"] or "data") / config["scale"]
    archives = config["archives_folder"] or "archives"
    own = config.get("own") or {}
    listings = {name: list_own(name, OwnKeys(**own[name]))[0] for name in names if name in own}
    found = {
        name: images_of(name, data / name, catalogue.datasets, listings.get(name)) for name in names
    }
    images = {name: one for name, one in found.items() if one is not None}
    published = [catalogue.datasets[name] for name in names if name in catalogue.datasets]
    downloads = [fetched(one, archives) for one in published]
    network, pixels = config["backbone"]["network"], config["image_size"]
    for name in jobs.published_weights(config):
        leaky = name == backbones.published(config["backbone"], "leaky_relu")
        known = catalogue.weights.get(name)
        # Of the others torchvision alone knows where they are.
        weights = fetched(known, archives, leaky=leaky) if known else Fetched(name, 0, (name,), ())
        downloads.append(weights)
    _check_weights(config)
    stored = config.get("stored_size") or pixels
    works = work.of(config, images)
    measured, speed, basis, no_times = _times(source, network, pixels, device, machine)
    hours, unknown = times.hours(works, measured, settings.points(config), speed)
    return Plan(
        scale=config["scale"],
        network=network,
        pixels=pixels,
        jobs=jobs.count(config, catalogue.datasets),
        images=images,
        left_out={name: one.left_out for name, one in listings.items() if one.left_out},
        downloads=downloads,
        archives=sum(one.bytes for one in downloads),
        unpacking=max(
            (sum(file.unpacked or 0 for file in one.best) for one in published), default=0
        ),
        stored=stored,
        packed=sum(one.total for one in images.values()) * stored**2 * 3,
        work=works,
        measured=measured,
        hours=hours,
        unknown=[] if no_times else unknown,
        no_times=no_times,
        source=str(source),
        speed=speed,
        basis=basis,
    )


# Read the user's files of weights as the rule `backbone` will; without one, torch is not imported.
def _check_weights(config: Mapping[str, Any]) -> None:
    backbone = config["backbone"]
    for one in jobs.activations(config) if backbone["pretrain"] is None else ():
        if backbones.published(backbone, one) is None:
            from lqf.experiments.backbone import features_of

            features_of(backbone, one, Path(backbones.source(backbone, one)))


def _times(
    source: Path, network: str, pixels: int, device: str | None, machine: Machine | None
) -> tuple[list[Measured], float, str, str]:
    """Returns times, how much faster the machine is that is asked for, what they are of, or why not."""
    measured: list[Measured] = []
    basis = no_times = ""
    try:
        measured = times.read(source, network, pixels, device)
    except times.NoTimes as problem:
        no_times = str(problem)
    else:
        basis = f"measured on {measured[0].device}"
    operations = next((one.operations for one in measured), None)
    if machine is not None:
        seconds, basis = machine(network, pixels, operations)
    elif operations and device is None and measured[0].device.startswith("CPU"):
        # Nobody runs this on one thread: without a measured GPU the hours are those of a usual one.
        seconds, basis = on_gpu(operations, DEFAULT_GPU)
    else:
        return measured, 1.0, basis, no_times
    ordinary = next((one.seconds for one in measured if one.method == "nlft"), None)
    if ordinary is None:
        return times.counted(seconds, basis), 1.0, basis, ""
    return measured, ordinary / seconds, basis, ""


def text(plan: Plan) -> str:
    """Write a plan for a terminal, by lqf/pages/templates/plan.txt."""
    sums: dict[str, list[float]] = {}
    for one in plan.work:
        passes = (one.passes.training, one.passes.evaluation + one.passes.setup, 0.0)
        sums[one.rule] = [*map(add, sums.get(one.rule, (0, 0, 0.0)), passes)]
    lent: dict[str, set[str]] = {}
    for hours in plan.hours:
        sums[hours.work.rule][2] += hours.hours
        if hours.measured != hours.work.method:
            lent.setdefault(hours.measured, set()).add(hours.work.method)
    missing = {one.rule for one in plan.unknown}
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    rules = [(rule, *row, rule in missing) for rule, row in sums.items()]
    unknown = sum(len(one.unknown) for one in plan.downloads)
    known: dict[str, Any] = {
        "rules": [*rules, ("total", *total, bool(missing))],
        "bounded": work.BOUNDED,
        "lent": sorted(lent.items()),
        "more": f"  and {_counted(unknown, 'file')} of unknown size" if unknown else "",
        "by_hand": [sentence for one in plan.downloads for sentence in one.by_hand],
        "single": [f"{one.name} ({', '.join(one.single)})" for one in plan.downloads if one.single],
        "shares": times.FORWARD,
    }
    filters: dict[str, Callable[..., str]]
    filters = {"size": gigabytes, "wrapped": _wrapped, "counted": _counted}
    return render("plan.txt", filters, plan=plan, **known).rstrip()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _wrapped(sentence: str) -> str:
    return textwrap.fill(
        sentence, _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
    )
