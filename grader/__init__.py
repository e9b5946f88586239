"""Checks of a learner's work: check, hint and status for notebooks. None of it is a mark."""

from .outside.notebook import check, hint, status

__all__ = ["check", "hint", "status"]
