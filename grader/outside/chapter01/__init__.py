"""The checks of chapter 1, in the order of its exercises."""

from .checks import CURATOR, EXACT, LEAVE_ONE_OUT
from .find_the_bug import FIND_THE_BUG
from .surrogate import SURROGATE

CHECKS = (SURROGATE, EXACT, LEAVE_ONE_OUT, CURATOR, FIND_THE_BUG)
