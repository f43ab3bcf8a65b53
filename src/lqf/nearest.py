"""Say what is allowed where a name is not, the closest one first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(value: object, allowed: Iterable[str]) -> str:
    """Write the end of a sentence about a name that does not exist."""
    names = list(allowed)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed are {', '.join(names)}."
