"""The checks of chapter 10, in the order of its exercises."""

from .checks import BRADLEY_TERRY, CALIBRATION, K_WISE
from .find_the_reward import FIND_THE_REWARD
from .monty_hall import MONTY_HALL

CHECKS = (BRADLEY_TERRY, K_WISE, CALIBRATION, MONTY_HALL, FIND_THE_REWARD)
