"""The checks of chapter 18, in the order of its exercises."""

from .find_the_race import FIND_THE_RACE
from .path import CRITICAL_PATH
from .reading import READ_A_PLAN
from .waiting import WHO_WAITS

CHECKS = (READ_A_PLAN, CRITICAL_PATH, WHO_WAITS, FIND_THE_RACE)
