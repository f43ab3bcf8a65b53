"""Fixtures of the report tests."""

from synthetic import results, runs

__all__ = ["results", "runs"]
