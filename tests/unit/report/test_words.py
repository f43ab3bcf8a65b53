from __future__ import annotations

import pytest

from lqf.report.words import counted


@pytest.mark.parametrize(
    ("values", "text"), [(1, "1 seed"), ([3, 3], "3 seeds"), ([1, 3], "1–3 seeds"), (0, "0 seeds")]
)
def test_counted(values: object, text: str) -> None:
    assert counted(values, "seed") == text  # type: ignore[arg-type]
