"""The sub-commands for a folder of photographs: fit, predict, evaluate, audit and others."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Command = Callable[[str, str, Callable[[argparse.Namespace], None]], Any]

_PHOTOS = "CLASS/*.jpg, or train/CLASS/*.jpg beside val/CLASS and test/CLASS"

# Name -> module, what it does, and the arguments of an example.
_COMMANDS = {
    "fit": ("app.fit", "fit a model to a folder of photographs", "photos -o model.lqf"),
    "predict": ("app.predict", "classes of images, with probabilities", "model.lqf new/"),
    "evaluate": ("app.predict", "errors on labelled photographs", "model.lqf photos"),
    "audit": ("app.review", "wrong labels, duplicates, leaks, and what matters", "photos"),
    "explain": ("app.explain", "the training images behind a prediction", "model.lqf a.jpg"),
    "forget": (
        "app.change",
        "the model without some photographs, with a receipt",
        "model.lqf --files cat/7.jpg -o without.lqf",
    ),
    "extend": ("app.change", "the model with further photographs", "model.lqf more -o new.lqf"),
    "example": ("app.example", "a first look on handwritten digits; no download", ""),
    "compare": (
        "app.compare",
        "are two runs of the workflow the same within intervals",
        "results/demo results/again",
    ),
    "report": (
        "report.page",
        "one page with verdicts, tables and figures of a run",
        "results/demo",
    ),
}


def register(command: Command) -> None:
    """Add the sub-commands to a parser."""

    def add(name: str) -> Any:
        module, text, example = _COMMANDS[name]

        def run(options: argparse.Namespace) -> None:
            started = time.perf_counter()
            found = getattr(import_module(f"lqf.{module}"), f"{name}_command")(options)
            if found is not None:
                tell(found | {"seconds": round(time.perf_counter() - started, 1)}, options.json)

        sub = command(name, text, run)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.epilog = f"example:\n  lqf {name} {example}".rstrip()
        return sub

    def model(sub: Any) -> None:
        sub.add_argument("model", type=Path, help="a file that lqf fit wrote")

    def output(sub: Any, text: str, default: str | None = None) -> None:
        file = None if default is None else Path(default)
        needed = default is None
        help_text = text if needed else f"{text} (default: {default})"
        sub.add_argument("-o", "--output", type=Path, required=needed, default=file, help=help_text)

    sub = add("fit")
    sub.add_argument("folder", type=Path, help=_PHOTOS)
    output(sub, "the model", "model.lqf")
    _network(sub, train="all", size=96)

    sub = add("predict")
    model(sub)
    sub.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    sub.add_argument("-o", "--output", type=Path, help="CSV or JSON file (default: print CSV)")

    sub = add("evaluate")
    model(sub)
    sub.add_argument("folder", type=Path, help=f"{_PHOTOS}; of a split folder test is taken")

    sub = add("audit")
    sub.add_argument("folder", type=Path, help=_PHOTOS)
    output(sub, "folder for audit.csv, audit.html and model.lqf", "audit")
    sub.add_argument(
        "--fix", type=Path, help="CSV with file and label: the audited model with these labels"
    )
    _network(sub, train="head", size=128)

    sub = add("explain")
    model(sub)
    sub.add_argument("image", type=Path, help="an image file")
    sub.add_argument("--number", type=int, default=8, help="images for and against (default: 8)")
    output(sub, "the page", "explain.html")

    sub = add("forget")
    model(sub)
    sub.add_argument(
        "--files", nargs="+", required=True, help="training files, as lqf audit names them"
    )
    output(sub, "the new model; the receipt lies beside it as .receipt.json", "forgotten.lqf")
    sub.add_argument("--no-refit", action="store_true", help="do not compare with fitting anew")

    sub = add("extend")
    model(sub)
    sub.add_argument("folder", type=Path, help="CLASS/*.jpg of the model's classes")
    output(sub, "the new model", "extended.lqf")

    sub = add("example")
    output(sub, "folder for example.png", "lqf-example")

    sub = add("compare")
    sub.add_argument("first", type=Path, help="a folder results/SCALE")
    sub.add_argument("second", type=Path, help="another one")

    sub = add("report")
    sub.add_argument("results", type=Path, help="a folder results/SCALE")
    sub.add_argument("--figures", type=Path, help="its figures (default: figures/SCALE)")
    sub.add_argument("-o", "--output", type=Path, help="default: report.html in RESULTS")


def _network(sub: Any, train: str, size: int) -> None:
    sub.add_argument("--network", default="resnet18", help="torchvision name, or timm/NAME")
    sub.add_argument("--weights", type=Path, help="file of weights (default: the published ones)")
    sizes = f"pixels; of several, leave-one-out chooses (default: {size})"
    sub.add_argument("--size", type=int, nargs="+", default=[size], help=sizes)
    parts = f"parameters to fit; the head takes seconds (default: {train})"
    sub.add_argument("--train", choices=("all", "head"), default=train, help=parts)
    sub.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")


def tell(found: Mapping[str, Any], as_json: bool) -> None:
    """Print what a sub-command returns: one JSON object, or a line for each.

    Args:
        found: Results by name; names with ``_`` for spaces.
        as_json: Whether --json was given.
    """
    if as_json:
        print(json.dumps(found, ensure_ascii=False, default=str))
        return
    width = max(map(len, found)) + 1
    for name, value in found.items():
        label = f"{name.replace('_', ' ')}:".ljust(width)
        for line in value if isinstance(value, list) else [value]:
            print(f"{label} {'none' if line is None else line}")
            label = " " * width
