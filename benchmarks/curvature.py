"""K-FAC factors and their eigenbases beside curvlinops and nngeometry, from the same probes.

All three compute the blocks of one Gauss–Newton matrix, one Rademacher probe a sample: nngeometry is
given the product of the outputs with the signs, curvlinops the empirical Fisher matrix of a squared
loss whose gradient is the probe (the cost of its Monte-Carlo type with one sample). So the factors
can be compared, and are.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import line
from lqf.curvature import kronecker_factors
from lqf.curvature.plan import make_plan
from lqf.curvature.probes import Probes
from lqf.curvature.sweep import sweep
from lqf.networks import fold_batch_norm

TITLE = "K-FAC factors and eigenbases"
ROUNDS = 1
CLASSES, BATCH, TARGET = 37, 64, 3.0
# Network, resolution, images.
CASES = [("resnet18", 64, 512)]
SMALL = [("squeezenet1_1", 64, 32)]
TOOLS = {"lqf": "lqf", "curvlinops": "curvlinops", "nngeometry": "nngeometry"}

# What tells the factors by layer; what makes their eigenbases.
Found = tuple[Callable[[], dict[str, tuple[Tensor, Tensor]]], Callable[[], object]]


def lqf(network: nn.Module, images: Tensor, outputs: Tensor, signs: Tensor) -> Found:
    """Ours."""
    factors = kronecker_factors(network, images, probes=1, batch=BATCH)

    def bases() -> None:
        for layer in factors.blocks:
            factors.basis(layer)

    return lambda: {p: (block.A[0], block.B[0]) for p, block in factors.blocks.items()}, bases


def curvlinops(network: nn.Module, images: Tensor, outputs: Tensor, signs: Tensor) -> Found:
    """Type "empirical"; eigh of every factor, as its EKFAC does."""
    from curvlinops import KFACLinearOperator

    targets = (outputs - signs / 2).split(BATCH)
    operator = KFACLinearOperator(
        network,
        nn.MSELoss(reduction="sum"),
        list(network.parameters()),
        list(zip(images.split(BATCH), targets, strict=True)),
        fisher_type="empirical",
        separate_weight_and_bias=False,
        check_deterministic=False,
        num_data=len(images),
        num_per_example_loss_terms=1,
    )
    operator.compute_kronecker_factors()
    A, B = operator._input_covariances, operator._gradient_covariances

    def bases() -> list[Any]:
        return [torch.linalg.eigh(factor) for factor in (*A.values(), *B.values())]

    return lambda: {path: (A[path], B[path] / len(images)) for path in A}, bases


def nngeometry(network: nn.Module, images: Tensor, outputs: Tensor, signs: Tensor) -> Found:
    """Variant "regression" of the product of the outputs with the signs."""
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatKFAC
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(images, signs), batch_size=BATCH)
    matrix = FIM(
        network,
        loader,
        PMatKFAC,
        variant="regression",
        function=lambda *batch: (network(batch[0]) * batch[1]).sum(1, keepdim=True),
    )
    names = {module: name for name, module in network.named_modules()}

    def found() -> dict[str, tuple[Tensor, Tensor]]:
        return {names[matrix.generator.l_to_m[key]]: pair for key, pair in matrix.data.items()}

    return found, matrix.compute_eigendecomposition


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """Rows of results, one a case; in a round the tools run one after the other."""
    rows = []
    makers = {"lqf": lqf, "curvlinops": curvlinops, "nngeometry": nngeometry}
    for name, resolution, number in SMALL if small else CASES:
        network, images, signs = _problem(name, resolution, number)
        with torch.no_grad():
            outputs = torch.cat([network(part) for part in images.split(BATCH)])
        torch.linalg.eigh(torch.eye(64))
        given = (network, images, outputs, signs)
        row: dict[str, Any] = {"case": f"{name}@{resolution}, {number} images"}
        times: dict[str, list[dict[str, float]]] = {tool: [] for tool in makers}
        reference: dict[str, Tensor] = {}
        row["difference"] = {}
        for _ in range(rounds):
            for tool, make in makers.items():
                (found, bases), factors = _timed(partial(make, *given))
                eigen = _timed(bases)[1]
                times[tool].append({"factors": factors, "eigenbases": eigen})
                products = {path: _scalars(*pair) for path, pair in found().items()}
                reference = reference or products
                row["difference"][tool] = max(
                    float((products[path] / value - 1).abs().max())
                    for path, value in reference.items()
                )
                del found, bases
                gc.collect()
        row["times"] = times
        row["pass_alone"] = _timed(partial(_pass_alone, network, images))[1]
        row["forward_passes"] = _images_seen(makers, *given)
        rows.append(row)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Times, ratios and the check."""
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {told}.", ""]
    for row in result["rows"]:
        lines += [f"## {row['case']}, one probe a sample", ""]
        head = ["wall s (CPU s)", *TOOLS, "pass alone"]
        lines += [line(head), line(["---"] * len(head))]
        for part in ("factors", "eigenbases", "total"):
            cells = [_cell(_best(row, tool, part)) for tool in TOOLS]
            alone = _cell(row["pass_alone"]) if part == "factors" else ""
            lines.append(line([part, *cells, alone]))
        ratios = _ratios(row)
        lines += ["", line(["lqf is faster by", "to reach", *list(TOOLS)[1:]]), line(["---"] * 4)]
        for kind in ("wall", "cpu"):
            told = "≥ 3 ×" if kind == "wall" else ""
            cells = [f"{ratios[tool, 'total', kind]:.1f} ×" for tool in list(TOOLS)[1:]]
            lines.append(line([f"total, {kind}", told, *cells]))
            for part in ("factors", "eigenbases"):
                cells = [f"{ratios[tool, part, kind]:.1f} ×" for tool in list(TOOLS)[1:]]
                lines.append(line([f"{part}, {kind}", "", *cells]))
        seen = ", ".join(f"{tool} {value:.2f}" for tool, value in row["forward_passes"].items())
        worst = max(row["difference"].values())
        lines += [
            "",
            f"Images through the network, in passes over the data: {seen} (ours plans on two images).",
            "",
            (
                f"Factors agree to {worst:.0e}: zᵀAz · uᵀBu of every layer for eight random z and "
                "u, relative, float32."
            ),
            "",
            (
                "*pass alone* is the forward and the backward pass by the layers' outputs, without "
                "factors. The peers' times contain no check for determinism and no count of the "
                "data, which curvlinops can be spared. CPU seconds count threads that wait."
            ),
            "",
        ]
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Stacked bars of wall seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        1, len(rows), figsize=(6 * len(rows), 3), layout="constrained", squeeze=False
    )
    for axes, row in zip(panels[0], rows, strict=True):
        left = [0.0] * len(TOOLS)
        for part in ("factors", "eigenbases"):
            width = [_best(row, tool, part)["wall"] for tool in TOOLS]
            axes.barh(list(TOOLS), width, left=left, label=part)
            left = [a + b for a, b in zip(left, width, strict=True)]
        alone = row["pass_alone"]["wall"]
        axes.axvline(alone, color="k", lw=1, label="forward and backward pass alone")
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.set_title(row["case"])
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _problem(name: str, resolution: int, number: int) -> tuple[nn.Module, Tensor, Tensor]:
    from torchvision import models

    torch.manual_seed(0)
    # Folded: the peers have no block for batch norm.
    network = fold_batch_norm(models.get_model(name, weights=None, num_classes=CLASSES).eval())
    images = torch.randn(number, 3, resolution, resolution)
    drawn = Probes(number, CLASSES, 1, 0).draw()
    if drawn is None:
        raise RuntimeError("one probe a sample is random; it must be drawn")
    return network, images, drawn[0].float()


def _timed(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = action()
    return value, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _scalars(A: Tensor, B: Tensor) -> Tensor:
    """What does not depend on how a tool shares constants between A and B."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(len(A), 8, generator=generator)
    u = torch.randn(len(B), 8, generator=generator)
    return ((z * (A @ z)).sum(0) * (u * (B @ u)).sum(0)).double()


def _pass_alone(network: nn.Module, images: Tensor) -> None:
    names = tuple(name for name, _ in network.named_parameters())
    sweep(
        network,
        images,
        names,
        make_plan(network, names, images),
        probes=lambda outputs: Probes(len(images), outputs, 1, 0),
        batch=BATCH,
        on_forward=lambda record: None,
        on_gradients=lambda record, found, weight: None,
        progress=None,
        note="",
    )


def _images_seen(
    makers: dict[str, Callable[..., Found]],
    network: nn.Module,
    images: Tensor,
    outputs: Tensor,
    signs: Tensor,
) -> dict[str, float]:
    """Images that run through the network, relative to their number, on a few images."""
    few = min(len(images), 2 * BATCH)
    seen = {}
    for tool, make in makers.items():
        counted: list[int] = []
        handle = network.register_forward_pre_hook(
            lambda _, args, c=counted: c.append(len(args[0]))
        )
        make(network, images[:few], outputs[:few], signs[:few])
        handle.remove()
        seen[tool] = sum(counted) / few
    return seen


def _best(row: dict[str, Any], tool: str, part: str) -> dict[str, float]:
    """The round with the least wall time."""
    times = row["times"][tool]
    if part != "total":
        return min((time[part] for time in times), key=lambda t: t["wall"])
    both = [_best(row, tool, part) for part in ("factors", "eigenbases")]
    return {kind: both[0][kind] + both[1][kind] for kind in ("wall", "cpu")}


def _ratios(row: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    return {
        (tool, part, kind): _best(row, tool, part)[kind] / _best(row, "lqf", part)[kind]
        for tool in TOOLS
        for part in ("factors", "eigenbases", "total")
        for kind in ("wall", "cpu")
    }


def _cell(times: dict[str, float]) -> str:
    return f"{times['wall']:.1f} ({times['cpu']:.1f})"
