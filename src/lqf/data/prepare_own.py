"""Prepare a user's own images, for scripts: `prepare_own`."""

from lqf.data.prepare import prepare_own

__all__ = ["prepare_own"]
