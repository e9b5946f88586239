"""The checks of chapter 6, in the order of its exercises."""

from .checks import CROWD, PACKED, TURNS
from .make_the_batch import MAKE_THE_BATCH

CHECKS = (TURNS, PACKED, CROWD, MAKE_THE_BATCH)
