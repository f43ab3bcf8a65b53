"""One epoch of each method on random images at full size: time an image, and peak memory.

The rows are what ``lqf plan`` multiplies with the paper's data sets. On a CPU the clock is CPU time
of one thread, so that a busy machine gives the same numbers; on a GPU it is the wall's.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.machine import forget_peak, isolated, peak, resident, table
from lqf.curvature import Metric, SampleGradients, estimate
from lqf.experiments.nonlinear import Schedule, train_network
from lqf.jacobian import FeatureJacobian, Jacobian, Layout, Linearized, NetworkJacobian
from lqf.losses import make_loss
from lqf.method import Method, get
from lqf.networks import Classifier, CovariancePooling, build, fold_batch_norm
from lqf.plan.machine import operations
from lqf.ridge import solve_sgd

TITLE = "One epoch of each method"
ROUNDS = 1
#: What was committed last; a run replaces the rows of its own device.
RESULT = Path(__file__).parent / "results" / "epoch.json"
#: Methods of one process: those of a tuple share the network and its curvature.
GROUPS = (
    ("nlft",),
    ("mpn_cov",),
    ("fc",),
    ("gaf",),
    ("lqf_fc",),
    ("lqf",),
    ("b_lqf",),
)
NOTE = (
    "A pass is one image's share of an epoch: forward, backward and the step; for the linear methods "
    "Jδ, Jᵀr and the preconditioner. For heads it is the forward pass to the features, once; an epoch "
    "over them is the column beside it. Set-up an image is the outputs at w0 and the two data passes "
    "of the curvature; set-up once is the eigenbases. Random images. Peak memory is that of the process without Python and torch on a CPU, "
    "and what is allocated on a GPU. On a CPU the seconds are CPU time of one thread. "
    "The set-up of B-LQF is that of these few images: the factor of its head, which sees 32,896 "
    "features, is kept as a row for each image, so that the memory of its eigenbasis grows with the "
    "images (about 3.3 times their rows of 0.13 MB), and its time with their square (8 s for 1,200 "
    "images on one CPU thread)."
)


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        network: name of the network.
        image_size: H = W.
        batch: images of a step.
        at_once: images in one pass.
        images: N.
        classes: C.
        covariance_dimension: of covariance pooling.
    """

    network: str
    image_size: int
    batch: int
    at_once: int
    images: int
    classes: int
    covariance_dimension: int = 256


FULL = {
    "cpu": Case("resnet50", 224, 32, 8, 32, 100),
    "cuda": Case("resnet50", 224, 32, 32, 1024, 100),
}
SMALL = Case("demo_resnet", 16, 4, 4, 8, 3, covariance_dimension=4)


@dataclass
class _Clock:
    """Seconds by name, on the clock of the device."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[name] = self.now() - started


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a method; rows that other devices left in the committed result are kept."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    case = SMALL if small else FULL[kind]
    rows: list[dict[str, Any]] = []
    for methods in GROUPS:
        # The best of the rounds: whatever disturbs a run makes it slower.
        runs = [isolated(_group, methods, case, kind) for _ in range(rounds)]
        for number in range(len(methods)):
            candidates = [run[number] for run in runs]
            rows.append(min(candidates, key=lambda row: row["seconds_per_image_pass"]))
            print(json.dumps(rows[-1]), flush=True)
    if small or not RESULT.exists():
        return rows
    others = json.loads(RESULT.read_text())["rows"]
    return [row for row in others if row["device"] != rows[0]["device"]] + rows


def _device_name(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    level = torch.backends.cpu.get_cpu_capability()
    return f"CPU, {torch.get_num_threads()} thread, {platform.machine()} {level}"


def _group(methods: tuple[str, ...], case: Case, kind: str) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    device = torch.device(kind)
    for name in methods:
        # What only a first run does (imports, handles of libraries) is not an epoch's.
        _Work(get(name), SMALL, device).row(name)
    before = resident()
    work = _Work(get(methods[0]), case, device)
    rows = []
    for name in methods:
        rows.append(work.row(name))
        rows[-1]["peak_bytes"] = work.peak_bytes() - (before if kind == "cpu" else 0)
    return rows


class _Work:
    """One method's set-up and epoch."""

    def __init__(self, method: Method, case: Case, device: torch.device) -> None:
        self.case, self.device, self.clock = case, device, _Clock(device)
        generator = torch.Generator().manual_seed(0)
        shape = (case.images, 3, case.image_size, case.image_size)
        images = torch.randn(shape, generator=generator).to(device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = (torch.arange(case.images) % case.classes).to(device)
        torch.manual_seed(0)
        network = build(
            case.network,
            case.classes,
            activation=method.activation,
            pooling=method.pooling,
            covariance_dimension=case.covariance_dimension,
        )
        self.network: Classifier = network.to(device, memory_format=torch.channels_last).eval()
        if isinstance(network.pool, CovariancePooling):
            with torch.no_grad():
                network.pool.calibrate(network.features(self.images[: case.at_once]))
        self._prepared: tuple[Jacobian, Metric | None] | None = None
        self._peak = 0
        self._forget_peak()

    def _forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            forget_peak()

    def peak_bytes(self) -> int:
        """Largest memory since the network was built, set-up included."""
        now = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else peak()
        self._peak = max(self._peak, now)
        return self._peak

    def row(self, name: str) -> dict[str, Any]:
        """Run a method, and tell what it took."""
        method = get(name)
        seconds = self._nonlinear(method) if method.trained == "all" else self._linear(method)
        setup = self.clock.seconds
        per_image = {
            key: setup[key] / self.case.images for key in ("outputs", "curvature") if key in setup
        }
        head = None
        if method.trained == "head":
            # An image passes the network once, and its features in every epoch.
            head, seconds = seconds, per_image.pop("outputs")
        return {
            "method": name,
            "network": self.case.network,
            "image_size": self.case.image_size,
            "classes": self.case.classes,
            "batch": self._batch(method),
            "images": self.case.images,
            "device": _device_name(self.device.type),
            "precision": "fp32",
            "clock": "wall" if self.device.type == "cuda" else "CPU time",
            "seconds_per_image_pass": seconds,
            "images_per_s": 1 / seconds,
            "head_seconds_per_image": head,
            "setup_seconds_per_image": sum(per_image.values()),
            "setup_seconds": 0.0,
            "forward_operations": operations(self.case.network, self.case.image_size),
        }

    def _batch(self, method: Method) -> int:
        return self.case.at_once if method.trained == "all" else self.case.batch

    def _nonlinear(self, method: Method) -> float:
        loss = make_loss(method.loss, 15.0, self.case.classes)
        schedule = Schedule(1e-4, 1e-4, self._batch(method), epochs=1)
        started = self.clock.now()
        ended: list[float] = []

        def on_epoch(*_: object) -> bool:
            ended.append(self.clock.now())
            return True

        train_network(self.network, self.images, self.labels, loss, schedule, 0, on_epoch)
        return (ended[0] - started) / self.case.images

    def _linear(self, method: Method) -> float:
        if self._prepared is None:
            self._prepared = self._set_up(method)
        jacobian, preconditioner = self._prepared
        loss = make_loss(method.loss, 15.0, self.case.classes)
        ended: list[float] = []

        def on_epoch(*_: object) -> bool:
            ended.append(self.clock.now())
            return True

        started = self.clock.now()
        solve_sgd(
            jacobian,
            loss,
            self.labels,
            weight_decay=1e-4,
            rate=1e-9,
            epochs=1,
            batch=self.case.batch,
            preconditioner=preconditioner,
            on_epoch=on_epoch,
        )
        return (ended[0] - started) / self.case.images

    def _set_up(self, method: Method) -> tuple[Jacobian, Metric | None]:
        """The Jacobian and, where the method has one, the preconditioner; each part is timed."""
        batch = self.case.at_once
        jacobian: Jacobian
        network: nn.Module
        if method.trained == "head":
            network = self.network.head
            with self.clock.measuring("outputs"), torch.no_grad():
                inputs = torch.cat([self.network.embed(x) for x in self.images.split(batch)])
                jacobian = FeatureJacobian(inputs, network(inputs))
            layout = Layout.of(network.named_parameters())
        else:
            network, inputs = fold_batch_norm(self.network), self.images
            linearized = Linearized(network)
            layout = linearized.layout
            with self.clock.measuring("outputs"):
                jacobian = NetworkJacobian(linearized, inputs, batch)
        if method.optimizer == "sgd":
            return jacobian, None
        return jacobian, self._preconditioner(network, inputs, layout)

    def _preconditioner(self, network: nn.Module, inputs: Tensor, layout: Layout) -> Metric:
        samples = SampleGradients(Linearized(network), inputs)
        with self.clock.measuring("curvature"):
            curvature = estimate(samples, inputs, batch=self.case.at_once)
        return Metric(curvature, layout, 1e-3)


def markdown(result: dict[str, Any]) -> str:
    """One line a device and method."""
    head = [
        "device",
        "method",
        "network",
        "batch",
        "ms an image and pass",
        "images/s",
        "of a head: µs an image",
        "peak GB",
        "set-up: ms an image",
        "set-up: s",
    ]
    rows = [
        [
            row["device"],
            row["method"],
            f"{row['network']}@{row['image_size']}",
            row["batch"],
            f"{1e3 * row['seconds_per_image_pass']:.3g}",
            f"{row['images_per_s']:.3g}",
            f"{1e6 * row['head_seconds_per_image']:.0f}" if row["head_seconds_per_image"] else "",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{1e3 * row['setup_seconds_per_image']:.3g}",
            f"{row['setup_seconds']:.3g}",
        ]
        for row in result["rows"]
    ]
    notes = [f"\n{row['method']}: {row['note']}." for row in result["rows"] if row.get("note")]
    return "\n".join([f"# {result['title']}", "", *table(head, rows), "", NOTE, *notes]) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Images a second by method, one colour a device."""
    rows: list[dict[str, Any]] = result["rows"]
    devices = list(dict.fromkeys(row["device"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(devices)
    for number, device in enumerate(devices):
        of = [row for row in rows if row["device"] == device]
        places = [methods.index(row["method"]) + number * height for row in of]
        axes.barh(places, [row["images_per_s"] for row in of], height, label=device)
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("images a second, one pass")
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    return figure
