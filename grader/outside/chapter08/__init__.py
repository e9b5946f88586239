"""The checks of chapter 8, in the order of its exercises."""

from .checks import BYTES, FORWARD, GRADIENT, ROUND
from .find_the_merge import FIND_THE_MERGE

CHECKS = (FORWARD, GRADIENT, ROUND, BYTES, FIND_THE_MERGE)
