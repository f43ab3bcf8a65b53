"""From runs/<scale>/ to results/<scale>/: everything that tables, figures and claims are made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lqf.data.folder import read_description
from lqf.report import aggregate_errors, aggregate_samples, aggregate_sweeps, artefacts, seals
from lqf.report.raw import write

log = logging.getLogger(__name__)

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
    "regularized": aggregate_sweeps.regularized,
    "leave_one_out": aggregate_sweeps.leave_one_out,
    "summary": aggregate_sweeps.summary,
    "active": aggregate_sweeps.active,
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
        MissingRun: A run that the config asks for is missing or malformed.
        WrongRecord: Runs were made with different settings, data, weights or versions.
    """
    data = Path(settings.get("data") or runs.parent.parent / "data" / runs.name)
    seeds = settings.get("seeds", [0])
    described = {
        about.parent.name: read_description(about.parent)
        for about in sorted(data.glob("*/dataset.json"))
    }
    left_out: list[dict[str, Any]] = []
    for experiment, aggregator in _AGGREGATORS.items():
        if not (section := settings["experiments"].get(experiment)):
            continue
        section = {**section, "described": described, "machines": {}}
        lacking: list[dict[str, Any]] = []
        if settings.get("partial"):
            section["lacking"] = lacking
        try:
            _write(experiment, aggregator(runs, section, seeds), section, data, output)
        except Exception as problem:
            if not settings.get("partial"):
                raise
            # What cannot be made of so few runs must not cost the other experiments.
            log.warning("%s is left out: %s", experiment, problem)
        left_out += [{"experiment": experiment, **one} for one in lacking]
    return left_out


def _write(
    experiment: str,
    frames: Mapping[str, pd.DataFrame],
    section: Mapping[str, Any],
    data: Path,
    output: Path,
) -> None:
    machines = pd.DataFrame(section["machines"].values(), columns=["processor", "torch"])
    used = machines.value_counts(sort=False).reset_index(name="runs")
    lacking = section.get("lacking")
    for name, frame in {**frames, artefacts.machines(experiment): used}.items():
        marked = frame.assign(partial=f"{len(lacking)} runs are missing") if lacking else frame
        write(marked, output / name)
    if (scores := frames.get("informativeness_scores.csv")) is not None:
        sheet = output / "informative_images.png"
        aggregate_samples.save_images(scores, section["shown"], data, sheet)
    seals.seal(output, experiment, artefacts.AGGREGATED[experiment])
