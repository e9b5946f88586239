"""A driver for results that may hold −inf: the judge takes no infinity, so a mark stands in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .driver import Arrays, call

NEVER = 1.0  # no log p is above 0


def call_with_never(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """As `call`, with NEVER in the place of −inf."""
    answer = call(function, arguments, inputs)
    return answer | {"result": marked(answer["result"])}


def marked(logs: np.ndarray) -> np.ndarray:
    """logs, with NEVER where they are −inf."""
    return np.where(np.isneginf(logs), NEVER, logs)
