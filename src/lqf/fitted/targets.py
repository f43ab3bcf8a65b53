"""What a user calls labels, as the N × C numbers that the squared loss fits, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = ("classes", "soft labels", "several labels", "numbers")


@dataclass(frozen=True)
class Targets:
    """How labels are encoded.

    Attributes:
        kind: ``classes`` (one label a sample, of any type), ``soft labels`` (rows that sum to one),
            ``several labels`` (zeros and ones), or ``numbers`` (regression).
        names: the classes, C, as numpy holds them; 0 … C−1 where labels are a matrix.
    """

    kind: str
    names: np.ndarray

    @property
    def outputs(self) -> int:
        """C."""
        return len(self.names)

    @classmethod
    def of(cls, labels: Any, classes: int | None) -> Targets:
        """See how labels have to be encoded.

        Args:
            labels: N labels, or N × C numbers.
            classes: C; None for as many as there are.

        Raises:
            ValueError: if they are nothing of the kind.
        """
        values = _array(labels)
        if values.ndim == 2:
            return cls(_kind(values), np.arange(_matches(values, classes)))
        if values.ndim != 1:
            raise ValueError(
                f"labels has shape {values.shape}; one label an image is needed, shape (N,), or a row "
                "of numbers each, shape (N, C)."
            )
        if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
            return cls("numbers", np.arange(1))
        names, counts = np.unique(values, return_counts=True)
        if classes is not None and values.dtype.kind in "iu":
            outside = values[(values < 0) | (values >= classes)]
            if not len(outside):
                names = np.arange(classes, dtype=values.dtype)
            elif len(names) > classes:
                raise ValueError(
                    f"labels contains {outside[0]} and {len(names)} different labels; with classes="
                    f"{classes} give at most {classes}, or leave classes out."
                )
        if classes is not None and len(names) != classes:
            raise ValueError(
                f"there are {len(names)} different labels and classes={classes}; leave classes out, or give "
                f"labels 0 to {classes - 1}."
            )
        if len(counts) < 2:
            raise ValueError(
                f"the training labels contain only class {names[0] if len(counts) == 0 else values[0]}; at "
                "least two classes are needed."
            )
        return cls("classes", names)

    def encode(self, labels: Any, count: int) -> Tensor:
        """Labels as N × C numbers, float64.

        Args:
            labels: as in `of`.
            count: N.

        Raises:
            ValueError: if there are not N, or one is none of the classes.
        """
        values = _array(labels)
        if len(values) != count:
            raise ValueError(
                f"labels has shape {values.shape} for {count} images; one label an image is needed, "
                f"shape ({count},)."
            )
        if self.kind != "classes":
            matrix = values.reshape(count, -1).astype(np.float64)
            if matrix.shape[1] != self.outputs:
                raise ValueError(
                    f"labels has {matrix.shape[1]} columns and the model {self.outputs} outputs; they "
                    "must be as many."
                )
            if not np.isfinite(matrix).all():
                raise ValueError("labels contain NaN or infinite values; remove or repair them.")
            return torch.from_numpy(matrix)
        return torch.nn.functional.one_hot(self.numbers(labels), self.outputs).double()

    def numbers(self, labels: Any) -> Tensor:
        """Labels as positions among the classes, N, int64.

        Raises:
            ValueError: if one is none of the classes.
        """
        values = _array(labels)
        if values.ndim == 2:
            return torch.from_numpy(values.argmax(1))
        known = np.isin(values, self.names)
        if not known.all():
            raise ValueError(
                f"labels contains {values[~known][0].item()!r}, which is none of the classes "
                f"{_some(self.names)}; fit again with it in the training set."
            )
        return torch.from_numpy(np.searchsorted(self.names, values).astype(np.int64))

    def decode(self, outputs: Tensor, scale: float) -> Any:
        """Predictions from outputs: labels (a tensor where they are integers), rows of booleans, or numbers."""
        if self.kind == "numbers":
            return outputs.squeeze(1) if self.outputs == 1 else outputs
        if self.kind == "several labels":
            return outputs > scale / 2
        found = outputs.argmax(1)
        if self.names.dtype.kind in "iu":
            return torch.from_numpy(self.names.astype(np.int64)).to(found.device)[found]
        return self.names[found.cpu().numpy()]


def _array(labels: Any) -> np.ndarray:
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, list | tuple) and not isinstance(
        labels[0] if labels else 0, list | tuple
    ):
        kinds = {str if isinstance(v, str) else type(v) for v in labels}
        if str in kinds and len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(f"labels are of several types ({names}); give labels of one type.")
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise ValueError("labels are of different lengths; give one label an image.") from error
    if values.dtype.kind == "b" and values.ndim == 1:
        return values
    if values.dtype.kind == "O":
        values = np.asarray(values.tolist())
    if values.dtype.kind == "O":
        raise ValueError("labels are objects that cannot be compared; give numbers or texts.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("labels contain NaN or infinite values; remove or repair them.")
    return values


def _kind(values: np.ndarray) -> str:
    matrix = values.astype(np.float64)
    if (matrix >= 0).all() and np.allclose(matrix.sum(1), 1.0, atol=1e-6):
        return "soft labels"
    if np.isin(matrix, (0.0, 1.0)).all():
        return "several labels"
    return "numbers"


def _matches(values: np.ndarray, classes: int | None) -> int:
    if classes is not None and values.shape[1] != classes:
        raise ValueError(
            f"labels has {values.shape[1]} columns and classes={classes}; they must be as many."
        )
    return int(values.shape[1])


def _some(names: np.ndarray) -> str:
    listed = [str(name) for name in names[:6]]
    return ", ".join(listed) + (", …" if len(names) > 6 else "")
