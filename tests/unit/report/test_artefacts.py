from __future__ import annotations

import subprocess
import sys

from claim_lists import CLAIMS

from lqf.report import artefacts


def test_every_table_and_figure_of_the_paper_is_there_and_ours_follow() -> None:
    figures = ["figure1_left", "figure1_right", *(f"figure{n}" for n in range(2, 7))]
    assert list(artefacts.ARTEFACTS) == [
        "table1",
        "table2",
        *figures,
        "table3",
        "figure7",
        "figure8",
        "figure9",
        "table4",
        "figure10",
    ]


def test_sources_are_aggregated_by_the_artefacts_own_experiment() -> None:
    for artefact in artefacts.ARTEFACTS.values():
        assert set(artefact.sources) <= set(artefacts.AGGREGATED[artefact.experiment])
        assert {f"{artefact.name}.csv", f"{artefact.name}.rst"} < set(artefact.outputs())


def test_what_is_drawn_does_not_depend_on_the_claims() -> None:
    assert not [a.name for a in artefacts.ARTEFACTS.values() if artefacts.CLAIMS_FILE in a.sources]


def test_claims_are_those_of_the_config() -> None:
    shown = [claim for artefact in artefacts.ARTEFACTS.values() for claim in artefact.claims]
    assert sorted(shown) == sorted(claim["id"] for claim in CLAIMS)


def test_a_dropped_experiment_drops_its_artefacts() -> None:
    assert [a.name for a in artefacts.select(["comparison"])] == ["table1", "figure1_left"]
    assert [a.name for a in artefacts.select(["comparison", "online"], "figure")] == [
        "figure1_left",
        "figure5",
    ]
    assert artefacts.aggregated_files(["elr"]) == ["elr.csv", "elr_best.csv", "elr_machines.csv"]


def test_nothing_in_the_report_imports_torch() -> None:
    modules = ["aggregate", "captions", "claims", "draw", "figures"]
    lines = [f"import lqf.report.{name}" for name in modules]
    code = "; ".join([*lines, "import sys; sys.exit('torch' in sys.modules)"])
    subprocess.run([sys.executable, "-c", code], check=True)
