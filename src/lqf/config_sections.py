"""Types of keys, and the sections of the configuration that say how models are made.

Read while a workflow is being planned, so it imports neither torch nor pandas.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from lqf.data.published import Group
from lqf.documents import NAME

T = TypeVar("T")

LEFT_OUT: Any = None
"""Default of a key that may be left out, but not be null."""


def _unique(values: list[T]) -> list[T]:
    if any(value in values[:position] for position, value in enumerate(values)):
        raise ValueError("it must not name anything twice")
    return values


def _word(value: str) -> str:
    """Refuse what readers of CSV files take for something else than text: results would lose its rows.

    Raises:
        ValueError: if it is such a word.
    """
    try:
        float(value)
    except ValueError:
        if value.casefold() not in {"na", "n/a", "null", "none", "true", "false"}:
            return value
    raise ValueError("readers of CSV files take it for a number, a truth value or nothing")


def _title(value: str) -> str:
    """Refuse what HTML, LaTeX, Markdown or mathematical text could read as more than a title.

    Raises:
        ValueError: if it is no such title.
    """
    plain = all(unicodedata.category(one)[0] in "LMN" or one in " .,:'()+-–/&%_" for one in value)
    if not plain or not value[:1].isalnum() or len(value) > 100:
        raise ValueError(
            "allowed are up to 100 letters, digits, spaces and . , : ' ( ) + - – / & % _, a letter or digit first"
        )
    return _word(value)


Name = Annotated[str, Field(pattern=NAME), AfterValidator(_word)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=10**9)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Several = Annotated[
    list[T],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_unique),
]
Colours = Annotated[list[T], Field(min_length=3, max_length=3)]


class Section(BaseModel):
    """A mapping of keys that refuses every other one, and converts nothing."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Precision(Section):
    """In what precision products are made."""

    nonlinear: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Of non-linear training; bf16 is mixed precision, auto is bf16 on CUDA and fp32 elsewhere."""
    linear: Literal["fp32", "tf32"] = "fp32"
    """Of products with the Jacobian; tf32 where the device has it."""
    curvature: Literal["fp32", "fp64"] = "fp32"
    """Of the Kronecker factors; eigenbases are found in fp64, those of wide layers in it."""


class ComputeKeys(Section):
    """Precision, memory layout, and how many images run at once."""

    precision: Precision = Field(default_factory=Precision)
    channels_last: bool = True
    """Memory layout of images and weights."""
    batch_memory: Positive = 8.0
    """GB that a pass may hold of its images, where the result does not depend on how many run at once.
    Halved where memory runs out."""


class OwnKeys(Section):
    """Where images are, and how to split what is not split."""

    folder: Text | None = None
    """Folder with train/CLASS/ and, if they exist, val/CLASS/ and test/CLASS/."""
    index: Text | None = None
    """CSV file with the columns path, class and optionally split, instead of folder."""
    root: Text | None = None
    """What the paths in index are relative to; null is its folder."""
    title: Annotated[Text, AfterValidator(_title)] | None = None
    """How tables and figures call the data set; null is its name."""
    test: Fraction = 0.2
    """Fraction of the images to test on, where there is no test split."""
    validation: Fraction = 0.1
    """Fraction of the training images to validate on, where there is no validation split."""
    seed: Natural = 0
    """Of the draws."""
    group: Group | None = None
    """Regular expression at the start of a file name; images with the same first group, such as a
    patient, stay in one split."""

    @field_validator("folder", "index", "root", mode="before")
    @classmethod
    def _written(cls, place: object) -> object:
        return str(place) if isinstance(place, PurePath) else place

    @model_validator(mode="after")
    def _one_place(self) -> OwnKeys:
        if (self.folder is None) == (self.index is None):
            raise ValueError("there must be either the key 'folder' or the key 'index'")
        return self


class Weights(Section):
    """Weights that exist, for each activation."""

    relu: Text
    """Torchvision's name for published weights (imagenet1k_v1), or the path of a state dict."""
    leaky_relu: Text
    """inplace_abn (resnet50 with slope 0.01), swap (those of relu, with new batch-norm statistics), or
    the path of a state dict."""


class Normalisation(Section):
    """Mean and deviation of red, green and blue, for images in [0, 1]."""

    mean: Colours[float]
    """Subtracted."""
    deviation: Colours[Positive]
    """Divided by."""


class Pretrain(Section):
    """How the backbone is trained from scratch, once for each seed of the experiments."""

    dataset: str
    """The source task."""
    epochs: Count
    """Passes over its training images."""
    rate: Positive
    """Peak learning rate."""
    batch: Count
    """Images in a batch."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Momentum of SGD."""
    weight_decay: Positive
    """Weight decay towards zero."""


class Backbone(Section):
    """The pre-trained network, made once for ReLU and once for leaky ReLU, and for each seed if here."""

    network: str
    """Architecture of the backbone, demo_resnet or a classifier of torchvision."""
    slope: Fraction
    """Slope of the leaky ReLU left of zero."""
    fold_batch_norm: bool
    """Fold batch norm into the convolution before it, so that every parameter has a Kronecker block."""
    covariance_dimension: Annotated[int, Field(ge=2)]
    """Channels left by the 1×1 reduction before covariance pooling."""
    weights: Weights | None = None
    normalisation: Normalisation | None = None
    """Mean and deviation of red, green and blue; null takes what the network's published weights were
    trained with."""
    pretrain: Pretrain | None


class Exact(Section):
    """The optimum itself (exact LQF, ridge head); leave-one-out chooses its constants."""

    tolerance: Fraction
    """Relative residual at which conjugate gradients stop, where the kernel is too large to be formed."""
    max_passes: Count
    """Passes over the data after which they stop in any case, and say so."""


class Sgd(Section):
    """SGD on linearised models and heads (GaF, FC, ablations without K-FAC)."""

    rates: Several[Positive]
    """Learning rates to try; with K-FAC in units of 1/λ_max of the preconditioned Hessian."""
    weight_decays: Several[Positive]
    """Coupled weight decays on δ = w − w0 to try, in the mean form of the loss (μ is N times it)."""
    augment: bool
    """Whether every training image is cropped and flipped at random, anew in each epoch."""
    epochs: Count
    """Passes over the training images."""
    batch: Count
    """Images in a batch."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Momentum m of SGD."""
    milestones: list[Fraction]
    """Fractions of the epochs after which the rate is multiplied by decay."""
    decay: Annotated[float, Field(gt=0, le=1)]
    """Factor on the rate at each milestone."""


class LinearSgd(Sgd):
    """SGD without K-FAC, on a problem whose curvature is constant."""

    relative: bool = False
    """Whether rates are in units of 1/λ_max of a mini-batch's Hessian, under which one range is stable on
    every data set, or learning rates as they stand."""


class Nonlinear(Sgd):
    """Training of all parameters of the network itself (NLFT, MPN-COV, AdamW, LP-FT, L2-SP, PS-KD, ELR)."""

    batch_norm: Several[Literal["train", "frozen"]]
    """Modes of batch norm to try; train updates its statistics, frozen keeps the source task's."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target that is spread evenly over the classes."""


class KfacSgd(Sgd):
    """SGD preconditioned with K-FAC factors taken once at w0 (LQF, LQF-FC, B-LQF)."""

    dampings: Several[Positive]
    """Constants to try that are added to the eigenvalues of the Kronecker blocks, in units of their mean; far
    above 1 it is SGD without a preconditioner."""


class Training(Section):
    """One grid for each kind of optimization."""

    nonlinear: Nonlinear = LEFT_OUT
    adamw: Nonlinear = LEFT_OUT
    lp_ft: Nonlinear = LEFT_OUT
    l2_sp: Nonlinear = LEFT_OUT
    sgd: LinearSgd = LEFT_OUT
    kfac_sgd: KfacSgd = LEFT_OUT
    exact: Exact = LEFT_OUT
