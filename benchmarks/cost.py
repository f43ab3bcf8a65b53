"""Cost against the number of samples N, outputs C, parameters P and the resolution, with the law.

One thread and CPU seconds of a small network of four convolutions: laws, not records. Every law is
a power of the variable that holds once its term is the largest; it is drawn through the last point.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import line
from lqf.curvature import kronecker_factors
from lqf.linear import Linearized
from lqf.solve import solve_dual

TITLE = "Cost against N, C, P and resolution"
ROUNDS = 2
USUAL = {"N": 32, "C": 8, "width": 24, "resolution": 16}
RANGES = {
    "N": (32, 64, 128, 192),
    "C": (4, 8, 16, 32),
    "width": (12, 24, 48, 96),
    "resolution": (8, 16, 32, 64),
}
# Quantity -> variable -> (power, the law in words). A width is √P.
LAWS: dict[str, dict[str, tuple[int, str]]] = {
    "pass": {
        "N": (1, "O(N)"),
        "C": (0, "O(1): one tangent, one cotangent"),
        "width": (2, "O(P)"),
        "resolution": (2, "O(S)"),
    },
    "factors": {
        "N": (1, "O(N)"),
        "C": (0, "O(1): one probe a sample"),
        "width": (2, "O(P), later the eigenbases' O(P^1.5)"),
        "resolution": (2, "O(S)"),
    },
    "Gram matrix": {
        "N": (2, "O(N²C²P), before it O(NC) for the rows"),
        "C": (2, "O(N²C²P), before it O(NC) for the rows"),
        "width": (2, "O(P)"),
        "resolution": (2, "O(S) for the rows, then O(1)"),
    },
    "dual solve": {
        "N": (3, "O(N³C³)"),
        "C": (3, "O(N³C³)"),
        "width": (0, "O(1)"),
        "resolution": (0, "O(1)"),
    },
}


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """Rows of results, one a quantity and variable."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            {
                "quantity": quantity,
                "variable": variable,
                "values": list(values[: 2 if small else None]),
                "cpu_seconds": [
                    _seconds(quantity, {**USUAL, variable: value}, rounds)
                    for value in values[: 2 if small else None]
                ],
                "parameters": [
                    _parameters({**USUAL, variable: value})
                    for value in values[: 2 if small else None]
                ],
            }
            for quantity in LAWS
            for variable, values in RANGES.items()
        ]
    finally:
        torch.set_num_threads(threads)


def markdown(result: dict[str, Any]) -> str:
    """Seconds of every point, the slope at the end, the law."""
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    usual = ", ".join(f"{key} {value}" for key, value in USUAL.items())
    lines = [f"# {result['title']}", "", f"Machine: {told}; one thread is used here.", ""]
    lines += [
        f"CPU milliseconds, the least of {result['rounds']}; what is not varied: {usual}.",
        "",
        line(["", "varied", "ms at each value", "slope at the end", "law's power", "law"]),
        line(["---"] * 6),
    ]
    for row in result["rows"]:
        power, law = LAWS[row["quantity"]][row["variable"]]
        pairs = zip(_shown(row), row["cpu_seconds"], strict=True)
        points = ", ".join(f"{value}: {1e3 * seconds:.3g}" for value, seconds in pairs)
        cells = [row["quantity"], _axis(row), points, f"{_slope(row):.2f}", _power(row, power), law]
        lines.append(line(cells))
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Points and the law through the last of them, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        len(LAWS), len(RANGES), figsize=(11, 9), layout="constrained", sharey="row"
    )
    for axes, row in zip(panels.flat, result["rows"], strict=True):
        power, law = LAWS[row["quantity"]][row["variable"]]
        values, seconds = row["values"], row["cpu_seconds"]
        shown = _shown(row)
        axes.loglog(shown, [1e3 * s for s in seconds], "o-", label="measured")
        drawn = [1e3 * seconds[-1] * (value / values[-1]) ** power for value in values]
        axes.loglog(shown, drawn, "k--", lw=1, label="law")
        axes.set_title(law, fontsize="small")
        axes.set_xlabel(_axis(row))
        axes.minorticks_off()
        axes.set_xticks(shown, [f"{value:,}" for value in shown], fontsize="small")
        if row["variable"] == next(iter(RANGES)):
            axes.set_ylabel(f"{row['quantity']}, ms")
    panels.flat[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _network(width: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for stride in (1, 2, 1, 2):
        layers += [nn.Conv2d(inputs, width, 3, stride, 1), nn.LeakyReLU(0.1)]
        inputs = width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(width, classes)).eval()


def _parameters(sizes: dict[str, int]) -> int:
    return sum(p.numel() for p in _network(sizes["width"], sizes["C"]).parameters())


def _seconds(quantity: str, sizes: dict[str, int], rounds: int) -> float:
    torch.manual_seed(0)
    N, C = sizes["N"], sizes["C"]
    network = _network(sizes["width"], C)
    images = torch.randn(N, 3, sizes["resolution"], sizes["resolution"])
    linearized = Linearized(network)
    delta = 1e-3 * torch.randn(linearized.layout.size)
    target = torch.randn(N, C, dtype=torch.float64)

    def one_pass() -> None:
        for part in images.split(32):
            linearized.pass_(part, delta, lambda outputs: outputs)

    def factors() -> None:
        found = kronecker_factors(network, images, probes=1)
        for layer in found.blocks:
            found.basis(layer)

    def matrix() -> Tensor:
        return linearized.gram(images, batch=len(images))

    actions: dict[str, Callable[[], Any]] = {
        "pass": one_pass,
        "factors": factors,
        "Gram matrix": matrix,
    }
    if quantity == "dual solve":
        rows = torch.randn(N * C, 64, dtype=torch.float64)
        actions[quantity] = partial(solve_dual, rows @ rows.T, target, 1.0)
    action = actions[quantity]
    action()
    return min(_cpu(action) for _ in range(rounds))


def _cpu(action: Callable[[], Any]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def _slope(row: dict[str, Any]) -> float:
    """Power of the shown variable between the last two points."""
    (x, y), (a, b) = row["cpu_seconds"][-2:], _shown(row)[-2:]
    return float(torch.log(torch.tensor(y / x)) / torch.log(torch.tensor(b / a)))


def _shown(row: dict[str, Any]) -> list[int]:
    return row["parameters"] if row["variable"] == "width" else row["values"]


def _axis(row: dict[str, Any]) -> str:
    return "P" if row["variable"] == "width" else row["variable"]


def _power(row: dict[str, Any], power: int) -> str:
    return str(power // 2) if row["variable"] == "width" else str(power)
