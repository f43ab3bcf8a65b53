"""How many jobs of each rule the workflow has, when nothing is there yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lqf import backbones
from lqf import config as settings
from lqf.config_keys import IMPLIED
from lqf.report import artefacts

_NOTEBOOKS = Path(__file__).resolve().parents[3] / "workflow" / "notebooks"


def datasets(config: Mapping[str, Any]) -> list[str]:
    """List the data sets that are prepared, the source task's included."""
    pretrain = config["backbone"]["pretrain"]
    return list(dict.fromkeys([*config["datasets"], *([pretrain["dataset"]] if pretrain else [])]))


def published_weights(config: Mapping[str, Any]) -> list[str]:
    """List the published weights that the methods need, as NETWORK.SOURCE, each once."""
    backbone = config["backbone"]
    if backbone["pretrain"] is not None:
        return []
    names = [backbones.published(backbone, one) for one in activations(config)]
    return list(dict.fromkeys(name for name in names if name is not None))


def activations(config: Mapping[str, Any]) -> list[str]:
    """List the activations that the methods and the notebook need the backbone with."""
    return sorted({activation for activation, _ in _backbones(config)})


def _backbones(config: Mapping[str, Any]) -> set[tuple[str, int]]:
    """The activation and seed of every pre-trained network that a job reads."""
    points = settings.points(config)
    tour = config["backbone"]["pretrain"] is not None
    found: set[tuple[str, int]] = (
        {(points["lqf"].activation, config["seeds"][0])} if tour else set()
    )
    for name, section in config["experiments"].items():
        for method in section.get("methods", [IMPLIED.get(name, "lqf")]):
            found |= {(points[method].activation, seed) for seed in section["seeds"]}
    return found


def count(config: Mapping[str, Any], published: Iterable[str]) -> dict[str, int]:
    """Count the jobs of each rule for the default target in an empty folder, in the order of the work.

    Rules without a job are left out; `published` names the data sets that are downloaded.
    """
    experiments = config["experiments"]
    names = datasets(config)
    pretrained = config["backbone"]["pretrain"] is not None

    def trained(which: Iterable[str]) -> int:
        runs = settings.runs(config, which)
        return len({run[:2] for run in runs} if config["seeds_together"] else runs)

    tables = len(artefacts.select(experiments, "table"))
    counts = {
        "download": len({*names} & {*published}),
        "prepare": len(names),
        "download_weights": len(published_weights(config)),
        "backbone": len(_backbones(config)) if pretrained else len(activations(config)),
        "train": trained(settings.SWEEPS),
        **{name: trained([name]) for name in settings.OWN_RUNS},
        **{
            name: len(experiments[name]["seeds"]) if name in experiments else 0
            for name in ("informativeness", "spectrum")
        },
        **{f"aggregate_{name}": 1 for name in experiments},
        "claims": 1,
        "table": tables,
        "page": tables,
        "figure": len(artefacts.select(experiments, "figure")),
        "caption": len(artefacts.select(experiments)),
        "tour": 1 if pretrained else 0,
        # Those that bring their own data; the tour is shown with them.
        "notebook": len([*_NOTEBOOKS.glob("*.py")]) - 1
        if pretrained and _NOTEBOOKS.is_dir()
        else 0,
        "all": 1,
    }
    return {rule: number for rule, number in counts.items() if number}
