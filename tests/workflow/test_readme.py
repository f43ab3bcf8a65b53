"""README.md and the page on the reproduction show what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lqf.report import artefacts

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
DEMO = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text("utf-8"))["experiments"]
REPRODUCED = (ROOT / "docs" / "reproduce.md").read_text("utf-8")


def test_the_two_commands_are_complete_lines() -> None:
    lines = TEXT.splitlines()
    install = 'pip install -e ".[test]"'

    assert f"{install} && snakemake --cores all --configfile config/demo.yaml" in lines
    assert f"{install} && pytest" in lines


def test_it_is_short() -> None:
    assert len(TEXT.split()) <= 1200


def test_every_artefact_has_a_command() -> None:
    for artefact in artefacts.ARTEFACTS.values():
        # What the demo does not run is drawn of photographs.
        scale = "demo" if DEMO[artefact.experiment] else "photos"
        end = "" if scale == "photos" else " …"
        # What trains nothing is asked for by its file.
        by_file = artefact.experiment == "leave_one_out"
        wanted = (
            f"`snakemake figures/{scale}/{artefact.name}.png "
            if by_file
            else f"only={artefact.experiment}{end}`"
        )
        assert wanted in REPRODUCED
        assert f"figures/{scale}/{artefact.name}." in REPRODUCED


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    local = [target for target in targets if "://" not in target]

    assert local
    # What a full demo run writes may not be there yet in a working copy.
    made = ("results/", "figures/")
    assert [one for one in local if not one.startswith(made) and not (ROOT / one).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/photographs.md"])
def test_errors_on_photographs_are_those_of_the_results(page: str) -> None:
    errors = pd.read_csv(ROOT / "results" / "photos_local" / "comparison.csv")
    lines = (ROOT / page).read_text("utf-8").splitlines()
    titles = {
        "nlft": "NLFT",
        "nlft_adamw": "NLFT, AdamW",
        "lp_ft": "LP-FT: head first, then all",
        "lqf_exact": "**exact LQF**",
    }
    for method, title in titles.items():
        means = errors.loc[errors["method"] == method, "err_mean"]
        (line,) = [one for one in lines if one.startswith(f"| {title} |")]
        cells = [cell.strip(" *").split(" ")[0].rstrip("*") for cell in line.split("|")[2:-1]]
        assert cells == [f"{mean:.1f}" for mean in [*means, means.mean()]]


def test_what_is_said_of_photographs_follows_from_the_results() -> None:
    errors = pd.read_csv(ROOT / "results" / "photos_local" / "comparison.csv")
    means = errors.pivot(index="dataset", columns="method", values="err_mean")
    exact = means["lqf_exact"]
    text = " ".join(TEXT.split())

    def below(reference: pd.Series) -> float:
        return -100 * float((exact / reference - 1).median())

    said = f"{below(means['lp_ft']):.1f} % below that of LP-FT and {below(means['nlft_adamw']):.1f} % below that of"
    assert said in text
    assert f"{abs(below(means[['nlft', 'nlft_adamw', 'lp_ft']].min(axis=1))):.1f}" == "0.0"
    assert "equal to that of whichever non-linear row is the best" in text
    shown = means.drop(columns="lqf_fc")
    assert f"at most {(exact - shown.min(axis=1)).max():.1f} points behind" in text
    assert exact.mean() == means.mean().min()
