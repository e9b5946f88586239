"""The checks of chapter 11, in the order of its exercises."""

from .checks import GAE, PPO
from .find_the_advantage import FIND_THE_ADVANTAGE
from .find_the_penalty import FIND_THE_PENALTY

CHECKS = (GAE, PPO, FIND_THE_PENALTY, FIND_THE_ADVANTAGE)
