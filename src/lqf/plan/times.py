"""Measured times of a pass, and the hours that follow from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lqf.method import Method
from lqf.plan.work import Work

#: A pass forward alone, as a share of a measured pass. By counting products: an ordinary step is
#: forward and twice as much backward; a linearised one carries tangents at twice the cost forward.
FORWARD = {"all": 1 / 3, "linearized": 3 / 5}


class NoTimes(ValueError):
    """Nothing is measured that the estimate could rest on; the message says what is."""


@dataclass(frozen=True)
class Measured:
    """One row of the benchmark.

    Attributes:
        method: Name of the method.
        device: What it was measured on.
        batch: Images at a time.
        seconds: Seconds an image and pass of training; where only the head is trained, of the pass
            forward to its features.
        setup: Seconds an image of setting a problem up, the pass to a head's features left out.
        once: Seconds of setting a problem up, whatever its images.
        peak_bytes: Most memory in use on the device, or None.
        head: Seconds an image and pass over stored features.
        operations: FLOP of one image forward, or None.
    """

    method: str
    device: str
    batch: int
    seconds: float
    setup: float
    once: float
    peak_bytes: int | None = None
    head: float = 0.0
    operations: float | None = None


@dataclass(frozen=True)
class Hours:
    """Hours of some work on one device, by the time of the method that was `measured`."""

    work: Work
    hours: float
    measured: str


def read(path: Path, network: str, pixels: int, device: str | None = None) -> list[Measured]:
    """Read the times of a network at an image size: the fastest of each method, on one device.

    `path` is benchmarks/results/epoch.json. Without a device it is the first that is no CPU, else the
    first.

    Raises:
        NoTimes: If there is none.
    """
    if not path.is_file():
        raise NoTimes(f"no step time is measured: there is no file {path}")
    try:
        rows: list[Mapping[str, Any]] = json.loads(path.read_text("utf-8"))["rows"]
    except (ValueError, KeyError, TypeError):
        raise NoTimes(f"no step time is measured: {path} is no result of that benchmark") from None
    fitting = [r for r in rows if (r["network"], r["image_size"]) == (network, pixels)]
    if not fitting:
        known = sorted({f"{row['network']} at {row['image_size']} pixels" for row in rows})
        raise NoTimes(
            f"no step time is measured for {network} at {pixels} pixels: {path} has "
            f"{', '.join(known) or 'nothing'}"
        )
    devices = list(dict.fromkeys(row["device"] for row in fitting))
    devices.sort(key=lambda name: name.startswith("CPU"))
    if device is not None and device not in devices:
        raise NoTimes(
            f"no step time is measured on {device!r}: {path} has {' and '.join(map(repr, devices))}; "
            "leave --device out for the hours there"
        )
    found: dict[str, Measured] = {}
    for row in fitting:
        if row["device"] == (device or devices[0]):
            one = Measured(
                row["method"],
                row["device"],
                row["batch"],
                row["seconds_per_image_pass"],
                row.get("setup_seconds_per_image", 0.0),
                row.get("setup_seconds", 0.0),
                row.get("peak_bytes"),
                row.get("head_seconds_per_image") or 0.0,
                row.get("forward_operations"),
            )
            if one.method not in found or one.seconds < found[one.method].seconds:
                found[one.method] = one
    return list(found.values())


def counted(seconds: float, device: str) -> list[Measured]:
    """Times of a network of which only ordinary training is known: `seconds` an image.

    Counted by products: a linearised step costs 5 passes forward where an ordinary one costs 3, and so
    does the curvature; a head needs one.
    """
    linear = 5 / 3 * seconds
    return [
        Measured("nlft", device, 0, seconds, 0.0, 0.0),
        Measured("lqf", device, 0, linear, linear, 0.0),
        Measured("fc", device, 0, seconds / 3, 0.0, 0.0),
    ]


def hours(
    works: Iterable[Work],
    times: Sequence[Measured],
    methods: Mapping[str, Method],
    speed: float = 1.0,
) -> tuple[list[Hours], list[Work]]:
    """Turn passes into hours, and name the work for which nothing alike is measured.

    Args:
        works: The passes.
        times: Measured times of one device.
        methods: Name -> the choices; a method that is not measured takes the time of one that
            does the same to an image.
        speed: How many times as fast as the measured device the one is that the hours are for.
    """
    found, unknown = [], []
    for work in works:
        lender = _lender(work.method, times, methods)
        if lender is None:
            unknown.append(work)
            continue
        trained, passes = methods[work.method].trained, work.passes
        if trained == "head":
            # An image goes through the network once, and its features through the head in each epoch.
            seconds = passes.setup * lender.seconds + passes.features * lender.head
        else:
            through = passes.training + FORWARD[trained] * passes.evaluation
            seconds = through * lender.seconds
        seconds += passes.setup * lender.setup + passes.problems * lender.once
        found.append(Hours(work, seconds / 3600 / speed, lender.method))
    return found, unknown


def _lender(name: str, times: Sequence[Measured], methods: Mapping[str, Method]) -> Measured | None:
    """The method itself, or the measured one whose choices are closest and that trains the same."""
    wanted = methods[name]

    def distance(one: Measured) -> tuple[int, ...]:
        other = methods[one.method]
        keys = ("pooling", "optimizer", "activation", "loss")
        return (one.method != name, *(getattr(wanted, k) != getattr(other, k) for k in keys))

    alike = [
        one
        for one in times
        if one.method in methods and methods[one.method].trained == wanted.trained
    ]
    return min(alike, key=distance, default=None)
