"""Checks of a learner's work: check, hint and status for notebooks. It leaves out marks: nothing here is one.

Nothing in `minillm` imports this package.
"""

from .notebook import check, hint, status

__all__ = ["check", "hint", "status"]
