"""Results, claims and figures of the runs that are there, where a workflow could not finish.

They lie in folders of their own, results/<scale>_partial and figures/<scale>_partial, so that they are
never taken for whole ones; every CSV, verdict and caption says what is missing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from lqf.report import artefacts
from lqf.report.aggregate import aggregate
from lqf.report.captions import caption
from lqf.report.claims import claims
from lqf.report.draw import draw
from lqf.report.raw import write

log = logging.getLogger(__name__)

COLUMNS = ["experiment", "dataset", "method", "seed", "why"]


def partial(runs: Path, results: Path, figures: Path, settings: dict[str, Any]) -> pd.DataFrame:
    """Aggregates, decides and draws what there are runs for.

    Returns:
        The runs that are missing and why, as written to `artefacts.MISSING_FILE` in `results`.
    """
    missing = pd.DataFrame(aggregate(runs, results, {**settings, "partial": True}), columns=COLUMNS)
    logs = runs.parent.parent / "logs" / runs.name
    missing["why"] = [_last_words(logs, row) or row["why"] for _, row in missing.iterrows()]
    write(missing, results / artefacts.MISSING_FILE)
    claims(results, results / artefacts.CLAIMS_FILE, settings["claims"])
    for artefact in artefacts.select(settings["experiments"]):
        if all((results / file).is_file() for file in artefact.sources):
            # One that cannot be made of so little must not cost the others.
            try:
                draw(artefact.name, results, figures)
                caption(artefact.name, results, figures)
            except Exception as problem:  # noqa: BLE001
                log.warning("%s is left out: %s", artefact.name, problem)
    log.warning("%d runs are missing; what there is is marked partial in %s", len(missing), results)
    for why, rows in missing.groupby("why", sort=False):
        log.warning("%s: %s", ", ".join(sorted(set(rows["dataset"]))), why)
    return missing


def _last_words(logs: Path, run: pd.Series) -> str | None:
    """The error in the first log that has one, of the jobs in logs/<scale> that a run waited for."""
    sweep = run["experiment"] in ("comparison", "ablation", "fine_grained")
    own = logs / ("train" if sweep else run["experiment"]) / run["dataset"]
    places = [
        own / f"{run['method']}/{run['seed']}.log",
        own / f"{run['method']}.log",
        own / f"{run['seed']}.log",
        *(logs / step / f"{run['dataset']}.log" for step in ("prepare", "download")),
        *sorted((logs / "backbone").glob(f"*-{run['seed']}.log")),
        *sorted((logs / "backbone").glob("*.log")),
        *sorted((logs / "download").glob("*.*.log")),
    ]
    for log_file in places:
        lines = log_file.read_text("utf-8").splitlines() if log_file.is_file() else []
        if said := [line for line in lines if line.startswith("lqf ")]:
            return said[-1]
    return None
