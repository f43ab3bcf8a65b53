"""The cluster that the tests in this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import cluster
import pytest


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM; where there can be none, the test is skipped with the reason."""
    try:
        cluster.install()
        running = cluster.running(tmp_path_factory.mktemp("slurm"))
        running.__enter__()
    except cluster.SlurmMissing as reason:
        pytest.skip(f"no SLURM: {reason}")
    try:
        yield
    finally:
        running.__exit__(None, None, None)
