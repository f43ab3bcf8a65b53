"""Every key of the configuration: type, bounds, meaning; anything else is refused.

``python -m lqf.config_keys > workflow/schemas/config.schema.yaml`` writes the same as a JSON schema,
for editors. Read while a workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from lqf import method
from lqf.config_sections import (
    LEFT_OUT,
    Backbone,
    ComputeKeys,
    Count,
    Name,
    Natural,
    OwnKeys,
    Positive,
    Section,
    Seed,
    Several,
    Text,
    Training,
)
from lqf.data.folder import LARGEST_IMAGE, SMALLEST_IMAGE

Percent = Annotated[int, Field(ge=0, le=100)]
Pixels = Annotated[int, Field(ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)]
_EMPTY: Any = {}

IMPLIED = {"spectrum": "nlft", "informativeness": "lqf_exact"}
"""What is trained by the experiments that name no method."""


def _rising(values: list[int]) -> list[int]:
    if values[0] != 0 or values != sorted(values):
        raise ValueError("it must start at 0 and rise")
    return values


def _shots(value: Any) -> int | str:
    if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("it must be a whole number of at least 1, or all")
    return value


def _scale(value: str) -> str:
    if value.endswith("_partial"):
        raise ValueError(
            "names that end in _partial are kept for what is there of an unfinished run"
        )
    return value


def _path(value: str) -> str:
    if any(one in "{}" or ord(one) < 32 for one in value):
        raise ValueError("a path of Snakemake has neither braces nor control characters")
    return value


Folder = Annotated[Text, AfterValidator(_path)]
Shots = Annotated[
    Any,
    AfterValidator(_shots),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "all"}]}),
]


class Experiment(Section):
    """What all experiments have."""

    seeds: Several[Seed] = LEFT_OUT
    """Seeds, one run each; left out, the top-level seeds are used."""


class Sweep(Experiment):
    """Methods on data sets, several seeds each."""

    datasets: Several[str]
    """Data sets to run on, out of those listed at the top."""
    methods: Several[str]
    """Methods to run."""


class Elr(Sweep):
    """The right of Figure 1, test error against the effective learning rate η/((1−m)b)."""

    rates: Several[Positive]
    """Learning rates to try."""
    batches: Several[Count]
    """Batch sizes b."""
    epochs: Count
    """Passes over the training images."""


class Kshot(Sweep):
    """Figure 4, few training images a class."""

    shots: Several[Shots]
    """Training images of a class, or all of the training set; both methods see the same draw."""


class Regularized(Sweep):
    """Table 3 and Figure 7, regularisers of NLFT beside exact LQF: few images, and wrong labels."""

    shots: Several[Count]
    """Training images of a class, with the labels as they are."""
    noise: Annotated[Several[Percent], AfterValidator(_rising)]
    """Percentages of wrong labels in training and validation, with the most images of a class; 0 comes first."""


class Single(Experiment):
    """An experiment on one data set."""

    dataset: str
    """One of the data sets listed under datasets."""


class Spectrum(Single):
    """Figure 3, eigenvalues of Gauss–Newton matrices at w0 and after non-linear fine-tuning."""

    samples: Annotated[int, Field(ge=2)]
    """Training images in the Gram matrix; its side is this times the classes."""


class Online(Single):
    """Figure 5, a task that arrives in steps, trained incrementally and from scratch."""

    methods: Several[str]
    """Methods to run."""
    steps: Count
    """Number of steps."""
    per_step: Count
    """Samples that arrive in a step."""
    max_epochs: Count
    """Epochs after which a step ends although the stop rule has not been met."""
    stop_error: Annotated[float, Field(gt=0, le=100)]
    """A step ends when the training error stays below this, in %."""
    patience: Count
    """Consecutive epochs that the training error has to stay below stop_error."""


class Informativeness(Single):
    """Figure 6, the most and least informative samples and what removing them does."""

    shown: Count
    """Samples shown at each end of the ranking."""
    removals: Annotated[Several[Natural], Field(min_length=2), AfterValidator(_rising)]
    """Numbers of removed training samples; 0 comes first and the numbers rise."""


class Summary(Sweep):
    """Figure 9, exact optima of a share of the images, kept by F-SI, at random, by k-centre or by herding."""

    images: Count
    """Training images of a data set before any leave, as many of each class."""
    keep: Several[Annotated[int, Field(ge=1, le=100)]]
    """Percentages of them that are kept."""


class Active(Sweep):
    """Figure 10, exact optima that learn the images they choose by variance or margin, or random ones."""

    images: Count
    """Training images of a data set, labelled or not, as many of each class."""
    start: Count
    """Images of each class that have a label at first."""
    steps: Count
    """Steps, in each of which as many images get a label as there are classes."""


class LeaveOneOut(Section):
    """Figure 8, leave-one-out errors of exact optima beside their test errors; trains nothing."""

    methods: Several[str]
    """Exact methods whose rows are read where comparison and kshot train them."""


class Experiments(Section):
    """What to run; an experiment that is absent or null is dropped with its tables and figures."""

    comparison: Sweep | None = None
    """Table 1 and the left of Figure 1."""
    ablation: Sweep | None = None
    """Figure 2, LQF with one or two of its choices put back, and with all three."""
    fine_grained: Sweep | None = None
    """Table 2, with covariance pooling."""
    elr: Elr | None = None
    spectrum: Spectrum | None = None
    kshot: Kshot | None = None
    online: Online | None = None
    informativeness: Informativeness | None = None
    regularized: Regularized | None = None
    leave_one_out: LeaveOneOut | None = None
    summary: Summary | None = None
    active: Active | None = None


class Measure(Section):
    """The number that is computed from the aggregated results, and its arguments."""

    name: str
    """Name of a measure in lqf.report.measures; it decides which of the other keys it needs."""
    experiment: Literal["comparison", "ablation", "fine_grained"] = LEFT_OUT
    """Experiment that is measured."""
    method: str = LEFT_OUT
    """Method that the claim is about."""
    methods: Several[str] = LEFT_OUT
    """Methods in the order that is claimed."""
    reference: str = LEFT_OUT
    """Method that it is compared with."""
    against: Several[str] = LEFT_OUT
    """Methods that it has to beat."""
    other: str = LEFT_OUT
    """Method or group of data sets whose value is subtracted."""
    group: Literal["coarse", "fine"] = LEFT_OUT
    """Group of data sets."""
    points: float = LEFT_OUT
    """Difference of errors that is allowed, in points."""
    first: str = LEFT_OUT
    """First of two ablations, removals, schedules or orders."""
    second: str = LEFT_OUT
    """Second of two ablations, removals, schedules or orders."""
    both: str = LEFT_OUT
    """Ablation that makes both changes."""
    matrix: Literal["squared", "cross_entropy"] = LEFT_OUT
    """Gauss–Newton matrix of which loss."""
    quantity: Literal["lambda_max", "spread", "effective_dimension"] = LEFT_OUT
    """What of its eigenvalues is compared."""
    at: str | int = LEFT_OUT
    """Number of shots, all, or the smallest or largest that was run; of summary the percentage kept."""
    removal: Literal["most", "least", "random"] = LEFT_OUT
    """Which samples are removed."""
    schedule: Literal["one_shot", "iterative"] = LEFT_OUT
    """Whether scores are computed once or again on the way."""
    score: Literal["fsi_eq8", "fsi_kfac", "leverage", "loo_error"] = LEFT_OUT
    """Approximate score that is compared with the exact one."""


class Rule(Section):
    """Comparisons of value, low, high (a 95 % interval) and n; neither met is undecided."""

    holds: str
    """When the claim holds."""
    fails: str
    """When the claim fails."""


class Claim(Section):
    """A claim of the paper or of ours, with the measure and the rule that decide it."""

    id: Name
    """Short name, unique in the list."""
    statement: Text
    """The claim in our words."""
    source: Text
    """Where the paper says it."""
    measure: Measure
    rule: Rule


class Keys(Section):
    """Configuration of the LQF reproduction: one file describes one scale, overlays change it."""

    scale: Annotated[Name, AfterValidator(_scale)]
    """Name of the scale; names the folders runs/SCALE, results/SCALE and figures/SCALE."""
    seeds: Several[Seed]
    """Seeds of the head, the batches and the draws; every experiment uses them unless it names its own."""
    seeds_together: bool = False
    """Whether one job runs all seeds of a data set and method (saves the start of many short jobs) or one
    seed (parallel, for long jobs)."""
    image_size: Pixels
    """Side of the square images that the network sees, in pixels."""
    stored_size: Pixels | None = None
    """Side of the prepared images, out of which image_size is cut; null is the same size."""
    compute: ComputeKeys = _EMPTY
    target_scale: Positive
    """Factor α on the one-hot targets of the squared loss (LQF eq. 3)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What jobs compute on: auto takes a GPU of its own for each job where there is one, else the CPU; the
    environment variable LQF_DEVICE goes before this key."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 600
    """Seconds between two states of a job, of which a kill loses one interval at most; the environment
    variable LQF_CHECKPOINT_SECONDS goes before this key."""
    archives_folder: Folder | None = None
    """Folder for the archives of the paper's data sets, one folder each; null is ./archives. LQF_DATA names
    further folders where archives may already be."""
    data_folder: Folder | None = None
    """Folder that already holds prepared data sets as SCALE/NAME/; null keeps them in ./data, where the
    workflow prepares what is missing."""
    datasets: Several[str]
    """Data sets to prepare; the experiments choose from these."""
    own: dict[Name, OwnKeys] = Field(default_factory=dict)
    """Data sets of your own by name; every image is in a folder of its class, or listed in a CSV file. Also
    list the name under datasets."""
    classes: Annotated[int, Field(ge=2)] | None = None
    """Classes of each data set that are used, the first by name; null takes all."""
    train_per_class: Count | None
    """Most training images of a class that are used; null takes the whole training split."""
    methods: dict[Name, method.Method] = Field(default_factory=dict)
    """Further methods beside the paper's, as points in the space of choices; a key is the method's
    name."""
    backbone: Backbone
    training: Training
    experiments: Experiments
    only: str | None = None
    """The one experiment to run, as in --config only=kshot; null runs all."""
    claims: list[Claim]
    """Claims of the paper, each with the measure and the rule that decide it."""


def points(config: Mapping[str, Any]) -> dict[str, method.Method]:
    """List the methods that a configuration may name: the paper's, and those of its key `methods`."""
    further = config.get("methods") or {}
    return {
        **method.METHODS,
        **{name: method.Method(**choices) for name, choices in further.items()},
    }


@functools.cache
def schema() -> dict[str, Any]:
    """The keys as a JSON schema (2020-12), as in `workflow/schemas/config.schema.yaml`."""

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            named = {key: plain(value) for key, value in node.items()}
            return {k: v for k, v in named.items() if k != "title" or not isinstance(v, str)}
        return [plain(one) for one in node] if isinstance(node, list) else node

    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **plain(Keys.model_json_schema())}


if __name__ == "__main__":
    import sys

    import yaml

    sys.stdout.write("# Made by python -m lqf.config_keys; do not edit.\n")
    sys.stdout.write(yaml.safe_dump(schema(), allow_unicode=True, sort_keys=False, width=120))
