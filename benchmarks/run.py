"""Run a benchmark and write its JSON, Markdown and plot: ``python -m benchmarks.run pass``."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks import one_pass
from benchmarks.machine import machine

BENCHMARKS = {"pass": one_pass}


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=15, help="repetitions, side by side")
    parser.add_argument("--small", action="store_true", help="a try-out in seconds")
    options = parser.parse_args()
    benchmark = BENCHMARKS[options.name]
    result = {
        "title": benchmark.TITLE,
        "machine": machine(),
        "rounds": options.rounds,
        "rows": benchmark.measure(options.rounds, options.small),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / options.name
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(result, benchmark.ACTIONS, benchmark.targets())
    path.with_suffix(".md").write_text(text)
    plot(result, benchmark.targets(), path.with_suffix(".png"))
    print(text)


def markdown(
    result: dict[str, Any], actions: dict[str, str], targets: dict[str, float | None]
) -> str:
    """A table of times and memory, and one of ratios beside their targets."""
    rows = result["rows"]
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {told}.", ""]
    lines += [
        f"Medians of {result['rounds']} rounds, side by side; ratios are taken in a round.",
        "",
    ]
    head = ["ms (peak MB)", *(row["case"] for row in rows)]
    lines += _line(head), _line(["---"] * len(head))
    for name, title in actions.items():
        cells = []
        for row in rows:
            cell = f"{1e3 * statistics.median(row['seconds'][name]):.0f}"
            peak = row["peak_bytes"].get(name)
            cells.append(cell if peak is None else f"{cell} ({peak / 1e6:.0f})")
        lines.append(_line([title, *cells]))
    head = ["ratio of the pass", "to reach", *(row["case"] for row in rows)]
    lines += ["", _line(head), _line(["---"] * len(head))]
    for label, target in targets.items():
        reached = "" if target is None else f"≤ {target}"
        lines.append(_line([label, reached, *(f"{row['ratios'][label]:.2f}" for row in rows)]))
    floor = [f"{row['floor']:.2f}" for row in rows]
    lines.append(_line(["*floor of time / ordinary step*", "", *floor]))
    worst = max(row["relative_difference_of_gradients"] for row in rows)
    lines += [
        "",
        (
            "Memory is the peak above that of the prepared network and images, in a process of its "
            "own; that of the linear methods contains δ."
        ),
        "",
        (
            "The floor is (F + 2F + B) / (F + B) with F the forward and B the backward pass "
            "measured here: the tangent of a convolution is two convolutions."
        ),
        "",
        f"Gradients agree with those through `torch.func.jvp` to {worst:.0e} (float32).",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plot(result: dict[str, Any], targets: dict[str, float | None], path: Path) -> None:
    """Ratios as bars, targets as marks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    height = 0.8 / len(rows)
    for number, row in enumerate(rows):
        places = [place + number * height for place in range(len(targets))]
        axes.barh(places, [row["ratios"][label] for label in targets], height, label=row["case"])
    for place, target in enumerate(targets.values()):
        if target is not None:
            axes.plot([target] * 2, [place - height / 2, place + 0.8 - height / 2], "k", lw=2)
    middle = 0.4 - height / 2
    axes.set_yticks([place + middle for place in range(len(targets))], list(targets))
    axes.invert_yaxis()
    axes.set_xlabel("ratio of the LQF pass (black: to reach)")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
