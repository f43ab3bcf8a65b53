"""What a fitted model says about the photographs it was fitted to: labels, twins, weight, leaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lqf.app.duplicates import find_duplicates
from lqf.app.model import PhotoModel
from lqf.app.photos import Photos

#: Columns of the audit, in order.
COLUMNS = (
    *("file", "split", "label", "predicted", "p_label", "p_predicted", "rank_label"),
    *("informativeness", "rank_informative", "duplicates", "duplicate_kind", "leak"),
)


@dataclass(frozen=True)
class Audit:
    """The findings.

    Attributes:
        rows: One row an image, `COLUMNS`; training images first.
        confusions: Columns label, predicted, images, by how often: training images that the model
            without them takes for another class.
        error: Leave-one-out error in %.
        test_error: Error on the images of val and test in %; None without any.
        exact: Whether leave-one-out is exact.
        scored_on: What informativeness was measured on, in words.
    """

    rows: pd.DataFrame
    confusions: pd.DataFrame
    error: float
    test_error: float | None
    exact: bool
    scored_on: str

    @property
    def summary(self) -> dict[str, object]:
        """The findings in numbers."""
        rows = self.rows
        train = rows["split"] == "train"
        return {
            "images": len(rows),
            "training_images": int(train.sum()),
            "leave_one_out_error_percent": round(self.error, 3),
            "leave_one_out_is_exact": self.exact,
            "test_error_percent": None if self.test_error is None else round(self.test_error, 3),
            "labels_that_look_wrong": int((rows["label"] != rows["predicted"])[train].sum()),
            "groups_of_duplicates": int(rows["duplicates"].max()),
            "exact_duplicates": int((rows["duplicate_kind"] == "exact").sum()),
            "near_duplicates": int((rows["duplicate_kind"] == "near").sum()),
            "leaks": int(rows["leak"].sum()),
        }


def audit(model: PhotoModel, train: Photos, others: Photos | None) -> Audit:
    """Look at every photograph."""
    loo = model.lqf.leave_one_out()
    labels = train.labels
    temperature = model.lqf.temperature_
    chances = (loo.outputs / temperature).softmax(1).cpu().numpy()
    parts = [_rows(train, chances, _margins(loo.outputs.cpu().numpy(), labels))]
    test_error = None
    if others is not None:
        outputs = model.lqf.decision_function(model.images(others))
        other = (outputs / temperature).softmax(1).numpy()
        parts.append(_rows(others, other, _margins(outputs.numpy(), others.labels)))
        test_error = 100 * float((other.argmax(1) != others.labels).mean())
    rows = pd.concat(parts, ignore_index=True)
    scored = others if others is not None else train
    worth = model.lqf.informativeness(model.images(scored)).cpu().numpy()
    rows["informativeness"] = pd.Series(worth).reindex(rows.index)
    rows["rank_informative"] = rows["informativeness"].rank(ascending=False, method="first")
    _mark_duplicates(rows, train, others)
    wrong = pd.DataFrame({"label": labels, "predicted": chances.argmax(1)})
    wrong = wrong[wrong["label"] != wrong["predicted"]].value_counts().reset_index(name="images")
    for column in ("label", "predicted"):
        wrong[column] = [train.classes[i] for i in wrong[column]]
    return Audit(
        rows[list(COLUMNS)],
        wrong,
        100 * float((chances.argmax(1) != labels).mean()),
        test_error,
        bool(loo.exact),
        "the images of val and test" if others is not None else "the training images themselves",
    )


def _rows(
    photos: Photos, chances: NDArray[np.float64], margins: NDArray[np.float64]
) -> pd.DataFrame:
    guess = chances.argmax(1)
    rows = pd.DataFrame(
        {
            "file": photos.files,
            "split": photos.splits,
            "label": [photos.classes[i] for i in photos.labels],
            "predicted": [photos.classes[i] for i in guess],
            "p_label": chances[np.arange(len(guess)), photos.labels],
            "p_predicted": chances.max(1),
        }
    )
    # Probabilities may be equal to rounding where the outputs behind them are not.
    order = pd.DataFrame({"p": rows["p_label"], "margin": margins}).apply(tuple, axis=1)
    rows["rank_label"] = order.rank(method="first").astype(int)
    return rows


def _margins(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Output of the given label above the largest other one."""
    places = np.arange(len(labels))
    given = outputs[places, labels]
    rest = outputs.copy()
    rest[places, labels] = -np.inf
    return given - rest.max(1)


def _mark_duplicates(rows: pd.DataFrame, train: Photos, others: Photos | None) -> None:
    group, exact = find_duplicates(train if others is None else train.and_(others))
    rows["duplicates"] = group
    rows["duplicate_kind"] = np.where(group > 0, np.where(exact, "exact", "near"), "")
    # Two splits in one group: what is tested on was trained on.
    splits = rows[rows["duplicates"] > 0].groupby("duplicates")["split"].nunique()
    rows["leak"] = rows["duplicates"].isin(splits[splits > 1].index)


def relabelled(photos: Photos, corrections: pd.DataFrame) -> tuple[Photos, list[str]]:
    """Training images with labels put right.

    Args:
        photos: The images.
        corrections: Columns file and label; an empty label leaves the image out.

    Returns:
        The images that stay, and what was changed, in words.

    Raises:
        ValueError: If a column lacks, or a file or a class does not exist.
    """
    for column in ("file", "label"):
        if column not in corrections:
            raise ValueError(
                f"the corrections have no column {column!r}: they need file and label, as the CSV of "
                "the audit has."
            )
    places = {file: i for i, file in enumerate(photos.files)}
    labels, gone, said = photos.labels.copy(), set(), []
    for file, label in zip(corrections["file"], corrections["label"], strict=True):
        if file not in places:
            raise ValueError(f"the corrections name {file!r}, which is not among the photographs.")
        place = places[file]
        before = photos.classes[labels[place]]
        if pd.isna(label) or not str(label).strip():
            gone.add(place)
            said.append(f"{file}: left out")
        elif str(label) not in photos.classes:
            raise ValueError(
                f"the corrections call {file!r} {str(label)!r}, which is no class: there are "
                f"{', '.join(photos.classes)}; leave the label empty to leave the image out."
            )
        elif str(label) != before:
            labels[place] = photos.classes.index(str(label))
            said.append(f"{file}: {before} -> {label}")
    fixed = replace(photos, labels=labels)
    return fixed.at([i for i in range(len(photos)) if i not in gone]), said
