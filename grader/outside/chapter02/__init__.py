"""The checks of chapter 2, in the order of its exercises."""

from .cache_step import CACHE_STEP
from .checks import ATTENTION, RMS_NORM, ROTATE
from .find_the_leak import FIND_THE_LEAK

CHECKS = (RMS_NORM, ATTENTION, ROTATE, CACHE_STEP, FIND_THE_LEAK)
