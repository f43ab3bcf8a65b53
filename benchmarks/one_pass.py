"""One LQF pass (Jδ and Jᵀc) beside an ordinary fine-tuning step and the other ways to do it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.func import functional_call, jvp
from torch.nn import functional as F

from benchmarks.machine import peak_memory, ratio, side_by_side, table, told
from lqf.jacobian import Kept, Linearized
from lqf.networks import fold_batch_norm

ROUNDS = 15
CLASSES = 37
# Network, resolution, batch.
CASES = [("resnet18", 64, 32), ("resnet50", 96, 16)]
SMALL = [("resnet18", 32, 4)]
ACTIONS = {
    "pass": "LQF pass",
    "kept": "LQF pass, f0 kept from the pass before",
    "step": "ordinary step, batch norm frozen",
    "step_train": "ordinary step, batch norm training",
    "through": "differentiating through torch.func.jvp",
    "twice": "torch.func.jvp, then forward and backward",
    "jvp": "Jδ alone",
    "forward": "f0 alone",
}
TITLE = "One pass: Jδ and Jᵀc of one batch"
# Ratio -> (numerator, denominator, kind, what to reach).
TARGETS = {
    "time / ordinary step": ("pass", "step", "time", 1.5),
    "time / ordinary step, f0 kept": ("kept", "step", "time", 1.5),
    "time / ordinary step, batch norm training": ("pass", "step_train", "time", 1.5),
    "time / through jvp": ("pass", "through", "time", 0.9),
    "time / jvp and second forward": ("pass", "twice", "time", None),
    "memory / ordinary step": ("pass", "step", "memory", 1.1),
    "memory / ordinary step, f0 kept": ("kept", "step", "memory", None),
    "memory / through jvp": ("pass", "through", "memory", 0.65),
}


def action(name: str, network: str, resolution: int, batch: int, folded: bool) -> Callable[[], Any]:
    """Prepare one of the actions."""
    from torchvision import models

    torch.manual_seed(0)
    model: nn.Module = models.get_model(network, weights=None, num_classes=CLASSES).eval()
    images = torch.randn(batch, 3, resolution, resolution)
    labels = torch.arange(batch) % CLASSES
    plain = model
    if folded:
        model = fold_batch_norm(model)
    linearized = Linearized(model)

    @cache
    def delta() -> torch.Tensor:
        # Made by the first call, so that the memory of the linear methods contains it.
        generator = torch.Generator().manual_seed(1)
        return 1e-3 * torch.randn(linearized.layout.size, generator=generator)

    weights = {n: p.detach() for n, p in model.named_parameters()}

    def loss_gradient(outputs: torch.Tensor) -> torch.Tensor:
        return (outputs - 15.0 * F.one_hot(labels, CLASSES)) / batch

    def change_gradient(base: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        return loss_gradient(base + change)

    kept = Kept()

    def step(trained: nn.Module, training: bool) -> None:
        trained.train(training)
        trained.zero_grad(set_to_none=True)
        F.cross_entropy(trained(images), labels).backward()
        trained.eval()

    def outputs(w: dict[str, torch.Tensor]) -> Any:
        return functional_call(model, w, (images,))

    def through() -> torch.Tensor:
        leaf = delta().clone().requires_grad_()
        base, change = jvp(outputs, (weights,), (linearized.layout.split(leaf),))[:2]
        (base + change).backward(loss_gradient((base + change).detach()))
        return leaf.grad  # type: ignore[return-value]

    def twice() -> torch.Tensor:
        with torch.no_grad():
            base, change = jvp(outputs, (weights,), (linearized.layout.split(delta()),))[:2]
        return linearized.vjp(images, loss_gradient(base + change))

    actions: dict[str, Callable[[], Any]] = {
        "pass": lambda: linearized.product(images, delta(), change_gradient)[2],
        "kept": lambda: linearized.product(images, delta(), change_gradient, None, kept)[2],
        "step": lambda: step(model, False),
        # A network whose batch norm is folded is compared with the network fine-tuning starts from.
        "step_train": lambda: step(plain, True),
        "through": through,
        "twice": twice,
        "jvp": lambda: linearized.jvp(images, delta()),
        "forward": lambda: linearized.outputs(images),
    }
    return actions[name]


def measure(rounds: int = 15, small: bool = False) -> list[dict[str, Any]]:
    """Rows of results, one a network and form of batch norm."""
    rows = []
    for network, resolution, batch in SMALL if small else CASES:
        for folded in (True, False):
            case = (network, resolution, batch, folded)
            actions = {name: action(name, *case) for name in ACTIONS}
            seconds = side_by_side(actions, rounds)
            through = actions["through"]()
            difference = max(
                float((actions[name]() - through).norm() / through.norm())
                for name in ("pass", "kept")
            )
            memory = {
                name: peak_memory(action, name, *case)
                for name in ("pass", "kept", "step", "step_train", "through", "twice")
            }
            ratios = {}
            for label, (numerator, denominator, kind, _) in TARGETS.items():
                of_memory = memory[numerator] / memory[denominator]
                of_time = ratio(seconds, numerator, denominator)
                ratios[label] = of_time if kind == "time" else of_memory
            rows.append(
                {
                    "case": f"{network}@{resolution}, batch {batch}, batch norm "
                    + ("folded" if folded else "frozen"),
                    "seconds": seconds,
                    "peak_bytes": memory,
                    "ratios": ratios,
                    # (F + 2F + B) / (F + B): one tangent is two convolutions a convolution.
                    "floor": 1 + 2 * ratio(seconds, "forward", "step"),
                    # (2F + B) / (F + B): f0 and its graph are there.
                    "floor_kept": 1 + ratio(seconds, "forward", "step"),
                    # δ beside the gradient, both P.
                    "memory_with_delta": 1 + 4 * through.numel() / memory["step"],
                    "relative_difference_of_gradients": difference,
                }
            )
    return rows


def targets() -> dict[str, float | None]:
    """What each ratio is to reach, None where nothing was set."""
    return {label: target for label, (*_, target) in TARGETS.items()}


def markdown(result: dict[str, Any]) -> str:
    """A table of times and memory, and one of ratios beside their targets."""
    rows = result["rows"]
    cases = [row["case"] for row in rows]
    times = []
    for name, title in ACTIONS.items():
        cells = [title]
        for row in rows:
            cell = f"{1e3 * statistics.median(row['seconds'][name]):.0f}"
            peak = row["peak_bytes"].get(name)
            cells.append(cell if peak is None else f"{cell} ({peak / 1e6:.0f})")
        times.append(cells)
    ratios = []
    for label, target in targets().items():
        reached = "" if target is None else f"≤ {target}"
        ratios.append([label, reached, *(f"{row['ratios'][label]:.2f}" for row in rows)])
    further = {
        "floor": "*floor of time / ordinary step*",
        "floor_kept": "*floor of time, f0 kept / ordinary step*",
        "memory_with_delta": "*memory of an ordinary step and of δ / ordinary step*",
    }
    for key, title in further.items():
        ratios.append([title, "", *(f"{row[key]:.2f}" for row in rows)])
    lines = [
        f"# {result['title']}",
        "",
        told(result),
        "",
        f"Medians of {result['rounds']} rounds, side by side; ratios are taken in a round.",
        "",
        *table(["ms (peak MB)", *cases], times),
        "",
        *table(["ratio of the pass", "to reach", *cases], ratios),
    ]
    worst = max(row["relative_difference_of_gradients"] for row in rows)
    lines += [
        "",
        (
            "Memory is the peak above that of the prepared network and images, in a process of its "
            "own; that of the linear methods contains δ, P numbers that an ordinary step does not have. "
            "Where batch norm is frozen, an ordinary step keeps more of the activations than the pass."
        ),
        "",
        (
            "The floor is (F + 2F + B) / (F + B) with F the forward and B the backward pass "
            "measured here: the tangent of a convolution is two convolutions. Where all images are "
            "the same in each pass, f0 and its graph can be kept, which leaves (2F + B) / (F + B); "
            "the solvers do so where it takes at most a quarter of the memory."
        ),
        "",
        f"Gradients agree with those through `torch.func.jvp` to {worst:.0e} (float32).",
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any]) -> Figure:
    """Ratios as bars, targets as marks."""
    rows, wanted = result["rows"], targets()
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(rows)
    for number, row in enumerate(rows):
        places = [place + number * height for place in range(len(wanted))]
        axes.barh(places, [row["ratios"][label] for label in wanted], height, label=row["case"])
    for place, target in enumerate(wanted.values()):
        if target is not None:
            axes.plot([target] * 2, [place - height / 2, place + 0.8 - height / 2], "k", lw=2)
    middle = 0.4 - height / 2
    axes.set_yticks([place + middle for place in range(len(wanted))], list(wanted))
    axes.invert_yaxis()
    axes.set_xlabel("ratio of the LQF pass (black: to reach)")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure
