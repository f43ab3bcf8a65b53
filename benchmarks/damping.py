"""Damping and rate of K-FAC-preconditioned SGD on ImageNet weights: what is stable, what converges.

Without weight decay the iterates stay in the span of P Jᵀ, so that the kernel J P Jᵀ of a damping
tells what every rate and batch does to all outputs, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import realbench
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf.curvature import KroneckerFactors, eigenvalue_correction, kronecker_factors
from lqf.linear import Layout, Linearized
from lqf.losses import error_rate
from lqf.networks import fold_batch_norm

TITLE = "Damping and rate of K-FAC-SGD on real weights"
ROUNDS = 1
DAMPINGS = tuple(10.0**k for k in range(-7, 2))
RATES = (0.03, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
BATCHES = (12, 8, 4, 2, 1)
EPOCHS, MOMENTUM, TARGET_SCALE, SLOPE = 50, 0.9, 15.0, 0.01
#: What the tables show; every other pair of batch and rate is in the JSON.
SHOWN_BATCH, SHOWN_RATE, SHOWN_DAMPING = 2, 0.1, 1e-4
#: Loss over its start beyond which SGD is stopped.
LOST = 1e6


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        dataset: name of the data set.
        network: name of the network.
        resolution: H = W.
        classes: C, the first of the data set.
        train: training images of a class.
        test: test images of a class.
    """

    dataset: str
    network: str
    resolution: int
    classes: int
    train: int
    test: int


FULL = Case("dtd_10", "resnet50v2_stages1-3", 64, 4, 6, 15)
SMALL = Case("cub_25", "squeezenet1_1", 32, 2, 3, 2)


@dataclass
class Kernels:
    """J P Jᵀ for each damping, and what belongs to it.

    Args:
        kernels: damping -> (N + M)C × NC; training samples come first.
        outputs: f0, (N + M) × C.
        labels: of all images.
        train: N.
        curvature: tr(G) / P.
        parameters: P.
    """

    kernels: dict[float, Tensor]
    outputs: Tensor
    labels: Tensor
    train: int
    curvature: float
    parameters: int


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row for each damping, batch and rate."""
    made = kernels(SMALL if small else FULL)
    rows = []
    for damping, kernel in made.kernels.items():
        for batch in BATCHES:
            if batch < made.train:
                rows += [sgd(made, kernel, batch, rate) | {"damping": damping} for rate in RATES]
    about = {"mean_curvature": made.curvature, "parameters": made.parameters, "n": made.train}
    return [about | row for row in rows]


def kernels(case: Case) -> Kernels:
    """The kernels of a case."""
    task = realbench.load(case.dataset, Sizes(case.train, 1, case.test), case.resolution, 0)
    chosen = [split.labels < case.classes for split in (task.train, task.test)]
    images, unseen = task.train.images[chosen[0]], task.test.images[chosen[1]]
    labels = torch.cat([task.train.labels[chosen[0]], task.test.labels[chosen[1]]])
    start = realbench.network(case.network, case.classes, "leaky_relu", SLOPE, 0, images)
    network: nn.Module = fold_batch_norm(start)
    linearized = Linearized(network)
    layout = linearized.layout
    factors = kronecker_factors(network, images, layout.names, batch=16)
    correction = eigenvalue_correction(network, images, factors, batch=16)
    # The rows of unseen images need fewer digits than memory.
    rows = _rows(linearized, images, torch.float32), _rows(linearized, unseen, torch.bfloat16)
    total = sum(
        value.double().sum() for value in [*correction.values(), *factors.diagonal.values()]
    )
    found = {d: torch.zeros(len(labels) * case.classes, len(rows[0])).double() for d in DAMPINGS}
    for part, eigenvalues, left_out in _coordinates(factors, correction, layout, rows):
        for damping, kernel in found.items():
            kernel += (part / (eigenvalues + damping).float() @ part[: len(rows[0])].mT).double()
            if left_out is not None:
                kernel += (left_out / damping).double()
    with torch.no_grad():
        outputs = torch.cat([network(part) for part in torch.cat([images, unseen]).split(16)])
    mean = float(total) / layout.size
    return Kernels(found, outputs.double(), labels, len(images), mean, layout.size)


def _rows(linearized: Linearized, images: Tensor, dtype: torch.dtype) -> Tensor:
    """J of some images, NC × P."""
    classes = linearized.outputs(images[:1]).shape[1]
    made = torch.empty(len(images) * classes, linearized.layout.size, dtype=dtype)
    for start in range(0, len(images), 3):
        part = linearized.jacobian(images[start : start + 3]).flatten(0, 1)
        made[start * classes : start * classes + len(part)] = part
    return made


def _coordinates(
    factors: KroneckerFactors,
    correction: dict[str, Tensor],
    layout: Layout,
    rows: tuple[Tensor, Tensor],
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yields a block's part of J in its eigenbasis, the eigenvalues, and J Jᵀ outside of a thin basis."""
    where, offset = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        where[name] = slice(offset, offset + shape.numel())
        offset += shape.numel()

    def columns(name: str) -> Tensor:
        return torch.cat([part[:, where[name]].float() for part in rows])

    count = len(rows[0])
    for layer, block in factors.blocks.items():
        basis = factors.basis(layer)
        groups, outputs, _ = basis.B.shape
        parts = [
            columns(name).unflatten(1, (groups, outputs, -1))
            for name in (block.weight, block.bias)
            if name is not None
        ]
        turned = basis.B.mT @ torch.cat(parts, -1)
        inside = (turned @ basis.A).flatten(1)
        left_out = None
        if basis.thin:
            turned = turned.flatten(1)
            left_out = turned @ turned[:count].mT - inside @ inside[:count].mT
        yield inside, correction[layer].double().flatten(), left_out
    for name, diagonal in factors.diagonal.items():
        yield columns(name), diagonal.double().flatten(), None


def sgd(made: Kernels, kernel: Tensor, batch: int, rate: float) -> dict[str, Any]:
    """K-FAC-SGD as `lqf.solve.solve_sgd` runs it, on outputs; ``rate`` is relative as in the grids."""
    N, C = made.train, made.outputs.shape[1]
    target = TARGET_SCALE * nn.functional.one_hot(made.labels[:N], C) - made.outputs[:N]
    target = target.flatten()
    train = kernel[: N * C]
    generator = torch.Generator().manual_seed(0)

    def epoch() -> list[Tensor]:
        order = torch.randperm(N, generator=generator)
        return [(part[:, None] * C + torch.arange(C)).flatten() for part in order.split(batch)]

    largest = max(
        torch.linalg.eigvalsh(train[rows][:, rows]).max().item() * C / len(rows) for rows in epoch()
    )
    unit = 1 / largest
    coefficients, velocity = torch.zeros_like(target), torch.zeros_like(target)
    start, loss = target.square().sum().item(), 1.0
    for number in range(EPOCHS):
        step = rate * unit * 0.1 ** ((number >= 0.5 * EPOCHS) + (number >= 0.8 * EPOCHS))
        for rows in epoch():
            residual = train[rows] @ coefficients - target[rows]
            velocity *= MOMENTUM
            velocity[rows] += residual * C / len(rows)
            coefficients -= step * velocity
        loss = (train @ coefficients - target).square().sum().item() / start
        if not loss < LOST:
            break
    row: dict[str, Any] = {"batch": batch, "rate": rate, "unit": unit, "diverged": not loss < 1}
    if row["diverged"]:
        return row
    outputs = made.outputs + (kernel @ coefficients).unflatten(0, (-1, C))
    errors = [error_rate(outputs[s], made.labels[s]) for s in (slice(N), slice(N, None))]
    return row | {"loss": loss, "train_err": errors[0], "test_err": errors[1]}


def markdown(result: dict[str, Any]) -> str:
    """One table over dampings, one over batches and rates."""
    rows = result["rows"]
    n, mean = rows[0]["n"], rows[0]["mean_curvature"]
    head = ["damping", "in mean curvatures", "1/λ", "loss over its start", "test error, %"]
    lines = [f"# {result['title']}", ""]
    lines += [f"Batch {SHOWN_BATCH} of {n} images, rate {SHOWN_RATE:g}/λ:", "", line(head)]
    lines.append(line(["---"] * len(head)))
    for row in rows:
        if (row["batch"], row["rate"]) == (SHOWN_BATCH, SHOWN_RATE):
            cells = [f"{row['damping']:.0e}", f"{row['damping'] / mean:.2g}", f"{row['unit']:.2g}"]
            lines.append(line([*cells, _loss(row), f"{row.get('test_err', math.nan):.1f}"]))
    rates = sorted({row["rate"] for row in rows})
    lines += ["", f"Damping {SHOWN_DAMPING:g}, loss over its start:", ""]
    lines += [line(["batch", *(f"{rate:g}/λ" for rate in rates)]), line(["---"] * (len(rates) + 1))]
    for batch in sorted({row["batch"] for row in rows}, reverse=True):
        of = {r["rate"]: r for r in rows if (r["batch"], r["damping"]) == (batch, SHOWN_DAMPING)}
        lines.append(line([f"{batch} of {n}", *(_loss(of[rate]) for rate in rates)]))
    note = (
        f"{EPOCHS} epochs, momentum {MOMENTUM}, steps of ×0.1 at 50 % and 80 %, targets of scale "
        f"{TARGET_SCALE:g}, no weight decay. 1/λ is the unit of the rates: λ is the largest eigenvalue of "
        f"P G_B over the mini-batches B of an epoch. Mean curvature tr(G)/P = {mean:.2g}, P = "
        f"{rows[0]['parameters']:,}. {FULL.network} (leaky ReLU of slope {SLOPE}) on {n} images of "
        f"{FULL.classes} classes of {FULL.dataset} at {FULL.resolution} pixels; "
        f"{FULL.classes * FULL.test} test images, so errors are known to about 6 points."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _loss(row: dict[str, Any]) -> str:
    return "diverges" if row["diverged"] else f"{row['loss']:.0e}"


def plot(result: dict[str, Any], path: Path) -> None:
    """Loss and test error by damping."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in result["rows"] if row["batch"] == SHOWN_BATCH and not row["diverged"]]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    for rate in sorted({row["rate"] for row in rows}):
        of = [row for row in rows if row["rate"] == rate]
        for axis, key in zip(axes, ("loss", "test_err"), strict=True):
            values = [row[key] for row in of]
            axis.plot([row["damping"] for row in of], values, "o-", label=f"{rate:g}/λ")
    axes[0].set_yscale("log")
    for axis, text in zip(axes, ("loss over its start", "test error (%)"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("damping")
        axis.set_ylabel(text)
    axes[0].legend(title="rate", fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
