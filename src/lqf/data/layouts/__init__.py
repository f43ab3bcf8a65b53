"""Readers of the files of each data set: which image has which label and belongs to which split.

A reader gets the folder of unpacked archives and the catalogue's entry. It never relies on the order
in which files or lines come: lists are joined by name or number, and names are sorted by code point.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from lqf.data.layouts import folders, lists, matlab
from lqf.data.listing import Listing
from lqf.data.published import CatalogueError, Published

LAYOUTS = {**folders.LAYOUTS, **lists.LAYOUTS, **matlab.LAYOUTS}
"""Name in the catalogue -> reader."""


def read_layout(root: Path, dataset: Published) -> Listing:
    """List the images of a data set.

    Returns:
        Its images; those without an official split have none.

    Raises:
        CatalogueError: If the catalogue names a reader that does not exist.
    """
    if dataset.layout not in LAYOUTS:
        close = difflib.get_close_matches(dataset.layout, LAYOUTS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise CatalogueError(
            f"catalogue key 'datasets.{dataset.name}.layout' is {dataset.layout!r}: {hint}choose one "
            f"of {', '.join(sorted(LAYOUTS))}."
        )
    return LAYOUTS[dataset.layout](root, dataset)
