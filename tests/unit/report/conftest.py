"""Fixtures of the report tests."""

from synthetic import runs, results

__all__ = ["runs", "results"]
