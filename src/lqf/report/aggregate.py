"""From runs/<scale>/ to results/<scale>/: everything that tables, figures and claims are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lqf.data.folder import read_description
from lqf.report import (
    aggregate_errors,
    aggregate_regularized,
    aggregate_samples,
    aggregate_sweeps,
    artefacts,
    seals,
)
from lqf.report.raw import MissingRun, write

Aggregator = Callable[[Path, dict[str, Any], Sequence[int]], dict[str, pd.DataFrame]]

_AGGREGATORS: dict[str, Aggregator] = {
    "comparison": aggregate_errors.comparison,
    "ablation": aggregate_errors.ablation,
    "fine_grained": aggregate_errors.fine_grained,
    "elr": aggregate_sweeps.elr,
    "kshot": aggregate_sweeps.kshot,
    "online": aggregate_sweeps.online,
    "spectrum": aggregate_samples.spectrum,
    "informativeness": aggregate_samples.informativeness,
    "regularized": aggregate_regularized.regularized,
}
"""Of the folder runs/<scale>, a section of the config, and seeds where it has none: file name -> rows."""


def aggregate(runs: Path, output: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Aggregates the raw CSVs of every experiment of the config.

    Args:
        runs: The folder runs/<scale>.
        output: The folder results/<scale>.
        settings: The resolved config: `experiments` (an experiment that is absent or null is left
            out), `seeds`, and optionally `data`, the folder of the prepared data sets (by default
            data/<scale> beside runs/), and `partial`: then runs that cannot be used are left out,
            which every CSV says in a column `partial`.

    Returns:
        The runs left out: experiment, data set, method, seed and why.

    Raises:
        ValueError: `experiments` is missing or names an unknown experiment.
        MissingRun: A run that the config asks for is missing or malformed.
        WrongRecord: Runs were made with different settings, data, weights or versions.
    """
    if "experiments" not in settings:
        raise ValueError("aggregate: settings lack the key 'experiments'; pass the whole config.")
    sections = {key: value for key, value in settings["experiments"].items() if value}
    unknown = sorted(set(sections) - set(_AGGREGATORS))
    if unknown:
        raise ValueError(
            f"aggregate: experiments {unknown} are unknown; allowed are {sorted(_AGGREGATORS)}."
        )
    data = Path(settings.get("data") or runs.parent.parent / "data" / runs.name)
    seeds = settings.get("seeds", [0])
    described = {
        about.parent.name: read_description(about.parent)
        for about in sorted(data.glob("*/dataset.json"))
    }
    left_out: list[dict[str, Any]] = []
    for experiment in [name for name in _AGGREGATORS if name in sections]:
        machines: dict[Path, tuple[str, str]] = {}
        section = {**sections[experiment], "described": described, "machines": machines}
        lacking: list[dict[str, Any]] = []
        if settings.get("partial"):
            section["lacking"] = lacking
        try:
            frames = _AGGREGATORS[experiment](runs, section, seeds)
        except MissingRun:
            if not lacking:
                raise
            frames = {}
        if frames:
            used = pd.DataFrame(machines.values(), columns=["processor", "torch"])
            frames[artefacts.machines(experiment)] = used.value_counts(sort=False).reset_index(
                name="runs"
            )
        for name, frame in frames.items():
            marked = frame.assign(partial=f"{len(lacking)} runs are missing") if lacking else frame
            write(marked, output / name)
        if experiment == "informativeness" and frames:
            scores = pd.read_csv(output / "informativeness_scores.csv")
            shown = sections[experiment].get("shown", 25)
            aggregate_samples.save_images(scores, shown, data, output / "informative_images.png")
        if frames:
            seals.seal(output, experiment, artefacts.AGGREGATED[experiment])
        left_out += [{"experiment": experiment, **one} for one in lacking]
    return left_out
