"""The checks of chapter 16, in the order of its exercises."""

from .alive import DEAD_OR_ALIVE
from .budgets import EQUAL_TOKENS
from .find_the_hole import FIND_THE_HOLE
from .level import ONE_LEVEL
from .step_rewards import REWARD_FOR_A_STEP

CHECKS = (DEAD_OR_ALIVE, ONE_LEVEL, EQUAL_TOKENS, REWARD_FOR_A_STEP, FIND_THE_HOLE)
