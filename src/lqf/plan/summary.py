"""The plan of one configuration, as data and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lqf import backbones
from lqf import config as settings
from lqf.data.own import OwnData, list_own
from lqf.data.published import Catalogue
from lqf.data.status import gigabytes
from lqf.plan import jobs, storage, times, work
from lqf.plan.images import Images, images_of
from lqf.plan.machine import DEFAULT_GPU, Machine, on_gpu
from lqf.plan.storage import Fetched
from lqf.plan.times import Hours, Measured
from lqf.plan.work import Work

_WIDTH = 100


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


def make(
    config: Mapping[str, Any],
    catalogue: Catalogue,
    source: Path,
    device: str | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Work a plan out.

    Args:
        config: A resolved configuration.
        catalogue: The published data sets and weights.
        source: File with measured times.
        device: Device whose times are wanted; None takes the one that was measured.
        machine: What else the hours are for. None takes a GPU of today where only a CPU
            was measured.
    """
    names = jobs.datasets(config)
    data = Path(config["data_folder"] or "data") / config["scale"]
    archives = config["archives_folder"] or "archives"
    own = config.get("own") or {}
    listings = {name: list_own(name, OwnData.read(own[name]))[0] for name in names if name in own}
    found = {name: images_of(name, data / name, catalogue, listings.get(name)) for name in names}
    images = {name: one for name, one in found.items() if one is not None}
    published = [catalogue.datasets[name] for name in names if name in catalogue.datasets]
    downloads = [storage.of_dataset(one, archives) for one in published]
    network, pixels = config["backbone"]["network"], config["image_size"]
    for name in jobs.published_weights(config):
        weights = catalogue.weights.get(name)
        leaky = name == backbones.published(config["backbone"], "leaky_relu")
        file = weights.file if weights else None
        downloads.append(storage.of_weights(name, file, archives, leaky=leaky))
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
        unpacking=storage.unpacking_bytes(published),
        stored=config.get("stored_size") or pixels,
        packed=storage.packed_bytes(images, config.get("stored_size") or pixels),
        work=works,
        measured=measured,
        hours=hours,
        unknown=[] if no_times else unknown,
        no_times=no_times,
        source=str(source),
        speed=speed,
        basis=basis,
    )


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


def lines(plan: Plan) -> Iterator[str]:
    """Write a plan for a terminal."""
    sets = f"{len(plan.images)} data set{'s' * (len(plan.images) != 1)}"
    yield f"Scale {plan.scale}: {sets}, {plan.network} at {plan.pixels} pixels"
    yield ""
    yield "Jobs in an empty folder (`snakemake -n` tells what is left of them)"
    for rule, number in plan.jobs.items():
        yield f"  {rule:<26}{number:>6}"
    yield f"  {'total':<26}{sum(plan.jobs.values()):>6}"
    yield ""
    yield from _download_lines(plan)
    yield ""
    if plan.left_out:
        yield "Files of yours that are not used"
        for name, reasons in plan.left_out.items():
            for why, number in reasons.items():
                yield from _wrapped(f"{name}: {number} × {why}")
        yield ""
    yield "Disk"
    if plan.downloads:
        yield f"  {'archives':<26}{gigabytes(plan.archives):>9}" + _more(plan.downloads)
    number = sum(one.total for one in plan.images.values())
    yield f"  {'prepared':<26}{gigabytes(plan.packed):>9}  {number:,} images of {plan.stored} pixels"
    if plan.unpacking:
        yield f"  {'while one is prepared':<26}{gigabytes(plan.unpacking):>9}  at most, then freed"
    yield "  Not counted: the states that jobs under way keep, and free at their end"
    yield ""
    yield from _time_lines(plan)


def _download_lines(plan: Plan) -> Iterator[str]:
    yield "Download"
    if not plan.downloads:
        yield "  nothing"
        return
    for one in plan.downloads:
        unknown = f"  without {', '.join(one.unknown)}: size unknown" if one.unknown else ""
        yield f"  {one.name:<26}{gigabytes(one.bytes):>9}{unknown}"
    yield f"  {'total':<26}{gigabytes(plan.archives):>9}" + _more(plan.downloads)
    if by_hand := [sentence for one in plan.downloads for sentence in one.by_hand]:
        yield "  May need your hand:"
        for sentence in by_hand:
            yield from _wrapped(sentence)
    if single := [f"{one.name} ({', '.join(one.single)})" for one in plan.downloads if one.single]:
        yield "  With one address and no other:"
        yield from _wrapped(
            f"{', '.join(single)}. Where it is down, put the files into the folder of the data set under the "
            "archives, or into one that LQF_DATA names; `lqf datasets check NAME` lists them."
        )


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(
        sentence, _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
    )


def _more(downloads: Sequence[Fetched]) -> str:
    number = sum(len(one.unknown) for one in downloads)
    return f"  and {number} file{'s' * (number != 1)} of unknown size" if number else ""


def _time_lines(plan: Plan) -> Iterator[str]:
    yield "Passes of single images through the network, and hours on one device"
    if not plan.work:
        yield "  none"
        return
    per_rule: dict[str, list[float]] = {}
    for one in plan.work:
        sums = per_rule.setdefault(one.rule, [0, 0, 0])
        sums[0] += one.passes.training
        sums[1] += one.passes.evaluation + one.passes.setup
    for hours in plan.hours:
        per_rule[hours.work.rule][2] += hours.hours
    missing = {one.rule for one in plan.unknown}
    yield f"  {'rule':<17}{'training':>16}{'forward alone':>16}{'hours':>13}"
    for rule, (training, forward, hour) in per_rule.items():
        bound = "  at most" if rule in work.BOUNDED else ""
        told = "?" if plan.no_times else f"{hour:,.1f}{'+' if rule in missing else ''}"
        yield f"  {rule:<17}{training:>16,}{forward:>16,}{told:>13}{bound}"
    total = sum(one.hours for one in plan.hours)
    sums = [sum(one[n] for one in per_rule.values()) for n in (0, 1)]
    told = "?" if plan.no_times else f"{total:,.1f}{'+' if missing else ''}"
    days = f"  {total / 24:,.1f} days, {total / 96:,.1f} on four devices" if total >= 48 else ""
    yield f"  {'total':<17}{sums[0]:>16,}{sums[1]:>16,}{told:>13}{days}"
    yield ""
    if plan.no_times:
        yield from _wrapped(
            f"No hours: {plan.no_times}. `lqf plan --measure` measures this machine in about a minute, and "
            "`lqf plan --gpu NAME` counts for one that is not here."
        )
        return
    yield from _source_lines(plan)


def _source_lines(plan: Plan) -> Iterator[str]:
    yield from _wrapped(f"Hours: {plan.basis}.")
    if plan.speed != 1:
        yield from _wrapped(
            f"Other methods cost in proportion to ordinary training as on {plan.measured[0].device} "
            f"({plan.source}), which takes {plan.speed:,.3g} times as long:"
        )
    yield "    per image and pass of training:"
    for one in plan.measured:
        memory = f", peak {gigabytes(one.peak_bytes)}" if one.peak_bytes else ""
        batch = f", batch {one.batch}" if one.batch else ""
        yield (
            f"    {one.method:<12}{1e3 * one.seconds / plan.speed:>9.3f} ms  "
            f"{plan.speed / one.seconds:>9,.1f} images/s{batch}{memory}"
        )
    yield from _wrapped(
        "`lqf plan --measure` measures this machine in about a minute; `--gpu NAME` counts for another GPU."
    )
    lent: dict[str, set[str]] = {}
    for hours in plan.hours:
        if hours.measured != hours.work.method:
            lent.setdefault(hours.measured, set()).add(hours.work.method)
    yield "  Assumed:"
    for other, names in sorted(lent.items()):
        yield from _wrapped(f"the time of {other} also for {', '.join(sorted(names))}")
    yield from _wrapped(
        f"a pass forward alone takes {times.FORWARD['all']:.2f} (ordinary) or "
        f"{times.FORWARD['linearized']:.2f} (linearised) of one of training, by counting products"
    )
    if plan.unknown:
        names = {one.method for one in plan.unknown}
        yield f"  Without {', '.join(sorted(names))}: nothing alike is measured."
    yield "  Not counted:"
    yield from _wrapped(
        "reading data, dense algebra on Gram matrices, the start of a job, decoding on the CPU"
    )
