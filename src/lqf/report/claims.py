"""The claims of the paper beside what was measured here; the verdicts follow from the config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lqf.report import artefacts, rules, seals
from lqf.report.measured import NotTested, PaperResults, Results
from lqf.report.measures import FUNCTIONS
from lqf.report.raw import write
from lqf.report.statistics import Estimate

_COLUMNS = [
    *("id", "source", "statement", "measure", "value", "low", "high", "n", "interval", "verdict"),
    *("rule", "paper_value", "paper_verdict", "note", "processor"),
]
# The extremes of n values cover the median with probability 1 − 2 / 2ⁿ: 0.97 for six.
_MANY = 6


def claims(results: Path, output: Path, claims_list: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Tests every claim of the config and writes claims.csv.

    Args:
        results: The folder results/<scale>.
        output: The CSV to write.
        claims_list: The config's `claims`: id, source, statement, measure, rule.

    Returns:
        One row a claim: its value with a 95 % interval and the interval's name, the number of
        data sets or seeds behind it, the verdict, the rule, and value and verdict by the paper's
        own printed tables where they can tell. `note` says why a claim fails or is undecided, and which
        choices lie at the edge of their grids, and `processor` what it was computed on. A claim whose
        design has no interval to decide it by is `untestable`.

    Raises:
        DamagedResults: A file of the results is not what was written.
    """
    seals.check(results, artefacts.aggregated_files(artefacts.AGGREGATED))
    ours, printed = Results(results), PaperResults()
    missing = _missing(results)
    rows = []
    for claim in claims_list:
        estimate, verdict, note = _test(claim, ours)
        theirs, paper_verdict, _ = _test(claim, printed)
        if lacking := missing.get(_experiment(claim), 0):
            verdict, note = "not tested", f"{lacking} runs of its experiment are missing"
        rows.append(
            {
                **claim,
                "measure": _spell(claim["measure"]),
                **asdict(estimate),
                "verdict": verdict,
                "rule": f"holds: {claim['rule']['holds']}; fails: {claim['rule']['fails']}",
                "paper_value": theirs.value,
                "paper_verdict": paper_verdict,
                "note": note,
                "processor": "; ".join(processors(results, _experiment(claim))),
            }
        )
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    write(frame, output)
    seals.seal(output.parent, output.stem, [output.name])
    return frame


def processors(results: Path, experiment: str | None = None) -> list[str]:
    """What an experiment was computed on, or all of them."""
    names = artefacts.AGGREGATED if experiment is None else [experiment]
    files = [file for name in names if (file := results / artefacts.machines(name)).is_file()]
    return sorted({one for file in files for one in pd.read_csv(file)["processor"]})


def _missing(results: Path) -> dict[str | None, int]:
    """Number of runs that partial results lack, by experiment; None is all of them."""
    file = results / artefacts.MISSING_FILE
    lacking = list(pd.read_csv(file)["experiment"]) if file.is_file() else []
    return {**Counter(lacking), None: len(lacking)}


def _experiment(claim: Mapping[str, Any]) -> str | None:
    """The experiment that a claim is tested on, where it is known."""
    shown = [one.experiment for one in artefacts.ARTEFACTS.values() if claim["id"] in one.claims]
    return claim["measure"].get("experiment") or next(iter(shown), None)


def decide(rule: Mapping[str, str], estimate: Estimate) -> str:
    """Applies a rule: `holds`, `fails` or `undecided`."""
    names = {name: float(getattr(estimate, name)) for name in rules.NAMES}
    found = (verdict for verdict in ("holds", "fails") if rules.holds(rule[verdict], names))
    return next(found, "undecided")


def _test(claim: Mapping[str, Any], results: Results) -> tuple[Estimate, str, str]:
    arguments = dict(claim["measure"])
    measure = FUNCTIONS[arguments.pop("name")]
    try:
        estimate = measure(results, **arguments)
    except NotTested as reason:
        nothing = Estimate(np.nan, np.nan, np.nan, 0, "")
        return nothing, "not tested", str(reason)
    if isinstance(results, PaperResults):
        # Printed numbers are taken as they stand: they come without intervals.
        value = estimate.value
        estimate = Estimate(value, value, value, estimate.n, "as printed")
    if np.isnan(estimate.value):
        return estimate, "not tested", "no run gives a finite value"
    verdict = decide(claim["rule"], estimate)
    if verdict == "undecided" and np.isnan(estimate.low):
        verdict = "untestable"
    notes = [_why(claim["rule"], verdict, estimate), *_edges(results, claim["measure"])]
    if "bootstrap" in estimate.interval and estimate.n < _MANY:
        notes.append(f"bootstrap over {estimate.n} data sets: its coverage is below 95 %")
    return estimate, verdict, "; ".join(filter(None, notes))


def _why(rule: Mapping[str, str], verdict: str, estimate: Estimate) -> str:
    """What the numbers have against a claim."""
    interval = f"the interval {estimate.low:.3g} … {estimate.high:.3g}"
    return {
        "holds": "",
        "fails": f"{interval} lies where the claim fails ({rule['fails']})",
        "undecided": f"{interval} (n = {estimate.n}) is neither where the claim holds ({rule['holds']}) "
        f"nor where it fails ({rule['fails']})",
        "untestable": f"{estimate.n} values have no interval, so that no number of them could decide",
    }[verdict]


def _edges(results: Results, measure: Mapping[str, Any]) -> list[str]:
    """Methods that a claim compares whose choices lie at the edge of their grids."""
    name = f"{measure.get('experiment')}_runs.csv"
    try:
        runs = results.frame(name)
    except NotTested:
        return []
    if "at_edge" not in runs:
        return []
    keys = ("method", "reference", "other", "first", "second", "both")
    named = [measure.get(key) for key in keys]
    named += [*measure.get("methods", ()), *measure.get("against", ())]
    found = []
    for method, own in runs[runs["method"].isin(named)].groupby("method", sort=True):
        if number := int(own["at_edge"].notna().sum()):
            found.append(f"{method} chose the edge of its grid in {number} of {len(own)} runs")
    return found


def _spell(measure: Mapping[str, Any]) -> str:
    arguments = [
        f"{key}={'+'.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in measure.items()
        if key != "name"
    ]
    return f"{measure['name']}({', '.join(arguments)})"
