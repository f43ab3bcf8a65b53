"""How much memory a job plans with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lqf import budget as budgets
from lqf.budget import budget

CPU = torch.device("cpu")


def test_a_quarter_of_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_MEMORY", "8")

    assert budget(CPU) == 2_000_000_000


@pytest.mark.parametrize("value", ["much", "0", "-1", "nan", "inf"])
def test_memory_is_a_number_of_gigabytes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_MEMORY", value)

    with pytest.raises(ValueError, match=f"LQF_MEMORY is '{value}'"):
        budget(CPU)


@pytest.mark.parametrize(("limit", "allowed"), [("4000000\n", 1_000_000), ("max\n", None)])
def test_the_limit_of_a_container_counts(
    limit: str, allowed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LQF_MEMORY", raising=False)
    monkeypatch.setattr(budgets, "_CGROUPS", ())
    machine = budget(CPU)
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(budgets, "_CGROUPS", (tmp_path / "nowhere", tmp_path / "memory.max"))

    assert budget(CPU) == (machine if allowed is None else allowed)
