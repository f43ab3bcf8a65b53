"""What is made: every table and figure, the aggregated CSVs it is made from, the claims it shows.

The workflow builds its rules from this registry, so it imports little.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lqf.report import seals

Kind = Literal["table", "figure"]

CLAIMS_FILE = "claims.csv"

MISSING_FILE = "missing.csv"
"""Which runs partial results lack, and why; whole results have no such file."""


def machines(experiment: str) -> str:
    """Name of the file that says what an experiment was computed with."""
    return f"{experiment}_machines.csv"


_TABLES: dict[str, tuple[str, ...]] = {
    "comparison": ("comparison.csv", "comparison_runs.csv", "relative.csv", "relative_summary.csv"),
    "ablation": ("ablation.csv", "ablation_runs.csv", "ablation_summary.csv"),
    "fine_grained": ("fine_grained.csv", "fine_grained_runs.csv"),
    "elr": ("elr.csv", "elr_best.csv"),
    "spectrum": ("spectrum.csv", "condition.csv"),
    "kshot": ("kshot.csv", "kshot_runs.csv"),
    "online": ("online.csv", "online_runs.csv"),
    "informativeness": (
        *("informativeness_scores.csv", "informativeness_correlation.csv"),
        *("informative_images.png", "removal.csv", "removal_runs.csv"),
    ),
    "regularized": ("regularized.csv", "regularized_runs.csv"),
    "leave_one_out": ("leave_one_out.csv",),
    "summary": ("summary.csv", "summary_runs.csv"),
    "active": ("active.csv", "active_runs.csv"),
}

AGGREGATED = {name: (*files, machines(name)) for name, files in _TABLES.items()}
"""Experiment -> the files that `aggregate` writes for it into results/<scale>/."""

EXTENSIONS: dict[Kind, tuple[str, ...]] = {
    "table": ("csv", "md", "tex"),
    "figure": ("pdf", "svg", "png", "csv"),
}
"""Kind -> the files that are drawn of an artefact; the `.csv` has its numbers."""


@dataclass(frozen=True)
class Artefact:
    """One table or figure of the paper, or one of ours beside them.

    Attributes:
        label: Its name, where it is one of the paper its name there.
        experiment: The experiment that it shows, a key of `AGGREGATED`.
        title: What it shows, in one line.
        sources: Names of the aggregated files it is drawn from, in results/<scale>/.
        claims: Ids of the claims it speaks to.
    """

    label: str
    experiment: str
    title: str
    sources: tuple[str, ...]
    claims: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file name without extension, `table1` or `figure1_left`."""
        return self.label.lower().replace(", ", "_").replace(" ", "")

    @property
    def kind(self) -> Kind:
        """`table` or `figure`."""
        return "table" if self.label.startswith("Table") else "figure"

    @property
    def caption(self) -> str:
        """Name of its caption in figures/<scale>/, made from the sources and the claims."""
        return f"{self.name}.rst"

    def outputs(self) -> tuple[str, ...]:
        """Returns the names of its files in figures/<scale>/."""
        return (*(f"{self.name}.{one}" for one in EXTENSIONS[self.kind]), self.caption)


_ARTEFACTS = [
    Artefact(label, experiment, title, tuple(sources.split()), tuple(claims.split()))
    for label, experiment, title, sources, claims in (
        (
            "Table 1",
            "comparison",
            "Test error of non-linear and linear fine-tuning",
            "comparison.csv relative_summary.csv",
            (
                "lqf_beats_linear lqf_near_nlft_coarse lqf_gain_over_fc exact_as_sgd metric_helps"
                " exact_beats_strong"
            ),
        ),
        (
            "Table 2",
            "fine_grained",
            "Test error on fine-grained tasks, with bilinear pooling",
            "fine_grained.csv",
            "b_lqf_beats_lqf b_lqf_beats_nlft lqf_beats_linear_fine",
        ),
        (
            "Figure 1, left",
            "comparison",
            "Relative increase of the test error over non-linear fine-tuning",
            "relative.csv relative_summary.csv",
            "lqf_median lqf_below_lqf_fc lqf_below_gaf lqf_below_fc linear_order far_is_harder",
        ),
        (
            "Figure 1, right",
            "elr",
            "Best effective learning rate of each task, and the error around it",
            "elr.csv elr_best.csv",
            "elr_spread elr_common_lqf elr_common_nlft",
        ),
        (
            "Figure 2",
            "ablation",
            "What each ingredient of LQF is worth",
            "ablation.csv ablation_summary.csv",
            "mse_helps kfac_helps leaky_helps ablation_order leaky_matters_without_kfac",
        ),
        (
            "Figure 3",
            "spectrum",
            "Eigenvalues of Gauss–Newton matrices before and after non-linear fine-tuning",
            "spectrum.csv condition.csv",
            "largest_curvature_falls condition_improves effective_dimension_falls",
        ),
        (
            "Figure 4",
            "kshot",
            "LQF against non-linear fine-tuning with few samples a class",
            "kshot.csv",
            "kshot_lqf_better kshot_advantage_shrinks kshot_single_outlier",
        ),
        (
            "Figure 5",
            "online",
            "Learning online, step by step, against training from scratch",
            "online.csv",
            "online_nlft_gap online_lqf_gap online_gap_difference online_lqf_cheaper",
        ),
        (
            "Figure 6",
            "informativeness",
            "The most and least informative samples, and what removing them costs",
            (
                "informativeness_scores.csv informativeness_correlation.csv informative_images.png"
                " removal.csv"
            ),
            (
                "removal_most_least removal_most_random removal_least_random removal_iterative"
                " eq8_ranks_as_exact kfac_ranks_as_exact"
            ),
        ),
        (
            "Table 3",
            "regularized",
            "Regularisers of non-linear fine-tuning and exact LQF, by images a class and wrong labels",
            "regularized.csv",
            "regularized_gap",
        ),
        (
            "Figure 7",
            "regularized",
            "Regularisers of non-linear fine-tuning beside exact LQF: few images, wrong labels",
            "regularized.csv",
            "noise_exact",
        ),
        (
            "Figure 8",
            "leave_one_out",
            "Leave-one-out error of exact optima against their test error",
            "leave_one_out.csv",
            "loo_unbiased",
        ),
        (
            "Figure 9",
            "summary",
            "Test error of exact LQF with a share of its training images",
            "summary.csv",
            "half_by_fsi",
        ),
        (
            "Table 4",
            "active",
            "Test error of exact LQF that chooses its images, step by step",
            "active.csv",
            "",
        ),
        (
            "Figure 10",
            "active",
            "Test error of exact LQF that chooses its images",
            "active.csv",
            "variance_beats_random",
        ),
    )
]
ARTEFACTS = {artefact.name: artefact for artefact in _ARTEFACTS}


class MissingResults(ValueError):
    """An aggregated file that an artefact is made from does not exist."""


def checked(name: str, results: Path, *further: str) -> Artefact:
    """Returns an artefact, if the folder results/<scale> has what it is made from, undamaged.

    Args:
        name: A key of `ARTEFACTS`.
        results: The folder.
        further: Names of other files that are read.

    Raises:
        MissingResults: An aggregated file that it needs is missing.
        DamagedResults: One of the files is not what was written.
    """
    artefact = ARTEFACTS[name]
    for source in artefact.sources:
        if not (results / source).is_file():
            raise MissingResults(
                f"{name}: {results / source} does not exist; run the workflow, or "
                "`python -m lqf aggregate`, first."
            )
    seals.check(results, [*artefact.sources, *further])
    return artefact


def select(experiments: Collection[str], kind: Kind | None = None) -> list[Artefact]:
    """Returns the artefacts of some experiments, in the paper's order; both kinds if None."""
    return [one for one in _ARTEFACTS if one.experiment in experiments and kind in {None, one.kind}]


def aggregated_files(experiments: Collection[str]) -> list[str]:
    """Returns the files that `aggregate` writes for some experiments, without the claims."""
    return [name for key, names in AGGREGATED.items() if key in experiments for name in names]
