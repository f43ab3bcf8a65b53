"""What is made: every table and figure, the aggregated CSVs it is made from, the claims it shows.

The workflow builds its rules from this registry, so it imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Kind = Literal["table", "figure"]

CLAIMS_FILE = "claims.csv"

MISSING_FILE = "missing.csv"
"""Which runs partial results lack, and why; whole results have no such file."""

AGGREGATED: dict[str, tuple[str, ...]] = {
    "comparison": (
        "comparison.csv",
        "comparison_runs.csv",
        "relative.csv",
        "relative_summary.csv",
    ),
    "ablation": ("ablation.csv", "ablation_runs.csv", "ablation_summary.csv"),
    "fine_grained": ("fine_grained.csv", "fine_grained_runs.csv"),
    "elr": ("elr.csv", "elr_best.csv"),
    "spectrum": ("spectrum.csv", "condition.csv"),
    "kshot": ("kshot.csv", "kshot_runs.csv"),
    "online": ("online.csv", "online_runs.csv"),
    "informativeness": (
        "informativeness_scores.csv",
        "informativeness_correlation.csv",
        "informative_images.png",
        "removal.csv",
        "removal_runs.csv",
    ),
}
"""Experiment -> the files that `aggregate` writes for it into results/<scale>/."""

EXTENSIONS: dict[Kind, tuple[str, ...]] = {
    "table": ("csv", "md", "tex", "rst"),
    "figure": ("pdf", "svg", "png", "csv", "rst"),
}
"""Kind -> the files written for an artefact; the `.rst` is its caption, the `.csv` its numbers."""


@dataclass(frozen=True)
class Artefact:
    """One table or figure of the paper.

    Attributes:
        name: Its file name without extension, `table1` or `figure1_left`.
        kind: `table` or `figure`.
        experiment: The experiment that it shows, a key of `AGGREGATED`.
        sources: Names of the aggregated CSVs it is drawn from, in results/<scale>/.
        label: Its name in the paper.
        title: What it shows, in one line.
        claims: Ids of the claims it speaks to.
    """

    name: str
    kind: Kind
    experiment: str
    sources: tuple[str, ...]
    label: str
    title: str
    claims: tuple[str, ...]

    def inputs(self) -> tuple[str, ...]:
        """Returns the files in results/<scale>/ that it needs: its sources and the claims."""
        return (*self.sources, CLAIMS_FILE)

    def outputs(self) -> tuple[str, ...]:
        """Returns the names of the files that drawing it writes into figures/<scale>/."""
        return tuple(f"{self.name}.{extension}" for extension in EXTENSIONS[self.kind])


ARTEFACTS: dict[str, Artefact] = {
    artefact.name: artefact
    for artefact in (
        Artefact(
            "table1",
            "table",
            "comparison",
            ("comparison.csv", "relative_summary.csv"),
            "Table 1",
            "Test error of non-linear and linear fine-tuning",
            (
                "lqf_beats_linear",
                "lqf_near_nlft_coarse",
                "lqf_gain_over_fc",
                "exact_as_sgd",
                "metric_helps",
                "exact_beats_strong",
            ),
        ),
        Artefact(
            "table2",
            "table",
            "fine_grained",
            ("fine_grained.csv",),
            "Table 2",
            "Test error on fine-grained tasks, with bilinear pooling",
            ("b_lqf_beats_lqf", "b_lqf_beats_nlft", "lqf_beats_linear_fine"),
        ),
        Artefact(
            "figure1_left",
            "figure",
            "comparison",
            ("relative.csv", "relative_summary.csv"),
            "Figure 1, left",
            "Relative increase of the test error over non-linear fine-tuning",
            (
                "lqf_median",
                "lqf_below_lqf_fc",
                "lqf_below_gaf",
                "lqf_below_fc",
                "linear_order",
                "far_is_harder",
            ),
        ),
        Artefact(
            "figure1_right",
            "figure",
            "elr",
            ("elr.csv", "elr_best.csv"),
            "Figure 1, right",
            "Best effective learning rate of each task, and the error around it",
            ("elr_spread", "elr_common_lqf", "elr_common_nlft"),
        ),
        Artefact(
            "figure2",
            "figure",
            "ablation",
            ("ablation.csv", "ablation_summary.csv"),
            "Figure 2",
            "What each ingredient of LQF is worth",
            (
                "mse_helps",
                "kfac_helps",
                "leaky_helps",
                "ablation_order",
                "leaky_matters_without_kfac",
            ),
        ),
        Artefact(
            "figure3",
            "figure",
            "spectrum",
            ("spectrum.csv", "condition.csv"),
            "Figure 3",
            "Eigenvalues of Gauss–Newton matrices before and after non-linear fine-tuning",
            ("largest_curvature_falls", "condition_improves", "effective_dimension_falls"),
        ),
        Artefact(
            "figure4",
            "figure",
            "kshot",
            ("kshot.csv",),
            "Figure 4",
            "LQF against non-linear fine-tuning with few samples a class",
            ("kshot_lqf_better", "kshot_advantage_shrinks", "kshot_single_outlier"),
        ),
        Artefact(
            "figure5",
            "figure",
            "online",
            ("online.csv",),
            "Figure 5",
            "Learning online, step by step, against training from scratch",
            ("online_nlft_gap", "online_lqf_gap", "online_gap_difference", "online_lqf_cheaper"),
        ),
        Artefact(
            "figure6",
            "figure",
            "informativeness",
            (
                "informativeness_scores.csv",
                "informativeness_correlation.csv",
                "informative_images.png",
                "removal.csv",
            ),
            "Figure 6",
            "The most and least informative samples, and what removing them costs",
            (
                "removal_most_least",
                "removal_most_random",
                "removal_least_random",
                "removal_iterative",
                "eq8_ranks_as_exact",
                "kfac_ranks_as_exact",
            ),
        ),
    )
}


def get(name: str) -> Artefact:
    """Returns the artefact of that name.

    Args:
        name: A key of `ARTEFACTS`.

    Returns:
        The artefact.

    Raises:
        ValueError: There is none of that name.
    """
    if name in ARTEFACTS:
        return ARTEFACTS[name]
    close = get_close_matches(name, ARTEFACTS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"artefact {name!r} does not exist; it is one of {sorted(ARTEFACTS)}.{hint}")


def select(experiments: Iterable[str], kind: Kind | None = None) -> list[Artefact]:
    """Returns the artefacts of some experiments, in the paper's order.

    Args:
        experiments: Names of the experiments that are run.
        kind: Only tables or only figures; both if None.

    Returns:
        The artefacts.
    """
    wanted = set(experiments)
    return [
        artefact
        for artefact in ARTEFACTS.values()
        if artefact.experiment in wanted and kind in {None, artefact.kind}
    ]


def aggregated_files(experiments: Iterable[str]) -> list[str]:
    """Returns the files that `aggregate` writes into results/<scale>/ for some experiments.

    Args:
        experiments: Names of the experiments that are run.

    Returns:
        File names, without `claims.csv`, which a rule of its own makes from them.
    """
    wanted = set(experiments)
    return [name for key, names in AGGREGATED.items() if key in wanted for name in names]
