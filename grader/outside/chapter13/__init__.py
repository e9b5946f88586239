"""The checks of chapter 13, in the order of its exercises."""

from .checks import BEST_POLICY, REFERENCE_POINT
from .find_the_wrong_push import FIND_THE_WRONG_PUSH
from .weights import DPO, IPO

CHECKS = (BEST_POLICY, DPO, IPO, REFERENCE_POINT, FIND_THE_WRONG_PUSH)
