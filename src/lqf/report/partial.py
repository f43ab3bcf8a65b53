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
from lqf.report.claims import claims
from lqf.report.draw import draw
from lqf.report.raw import write

log = logging.getLogger(__name__)

COLUMNS = ["experiment", "dataset", "method", "seed", "why"]


def partial(runs: Path, results: Path, figures: Path, settings: dict[str, Any]) -> pd.DataFrame:
    """Aggregates, decides and draws what there are runs for.

    Args:
        runs: The folder runs/<scale>.
        results: The folder to aggregate into.
        figures: The folder to draw into.
        settings: The resolved config: `experiments`, `claims`, and `data`.

    Returns:
        The runs that are missing and why, as written to `artefacts.MISSING_FILE` in `results`.
    """
    missing = pd.DataFrame(aggregate(runs, results, {**settings, "partial": True}), columns=COLUMNS)
    words = _LastWords(runs.parent.parent / "logs" / runs.name)
    missing["why"] = [words.of(row) or row["why"] for _, row in missing.iterrows()]
    write(missing, results / artefacts.MISSING_FILE)
    claims(results, results / artefacts.CLAIMS_FILE, settings["claims"])
    for artefact in artefacts.select(settings["experiments"]):
        if all((results / file).is_file() for file in artefact.inputs()):
            draw(artefact.name, results, figures)
    log.warning("%d runs are missing; what there is is marked partial in %s", len(missing), results)
    for why, rows in missing.groupby("why", sort=False):
        log.warning("%s: %s", ", ".join(sorted(set(rows["dataset"]))), why)
    return missing


class _LastWords:
    """What the job that a run waited for said before it failed.

    Args:
        logs: The folder logs/<scale>.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs

    def of(self, run: pd.Series) -> str | None:
        """The error in the first log that has one, else None."""
        sweep = run["experiment"] in ("comparison", "ablation", "fine_grained")
        own = self._logs / ("train" if sweep else run["experiment"]) / run["dataset"]
        method = str(run["method"])
        places = [
            *(
                own / method / f"{run['seed']}.log",
                own / f"{method}.log",
                own / f"{run['seed']}.log",
            ),
            *(self._logs / step / f"{run['dataset']}.log" for step in ("prepare", "download")),
            *sorted((self._logs / "backbone").glob("*.log")),
            *sorted((self._logs / "download").glob("*.*.log")),
        ]
        for log_file in places:
            lines = log_file.read_text("utf-8").splitlines() if log_file.is_file() else []
            if said := [line for line in lines if line.startswith("lqf ")]:
                return said[-1]
        return None
