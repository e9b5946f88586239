"""The checks of chapter 3, in the order of its exercises."""

from .checks import BITS, SCALING
from .cut_the_text import CUT_THE_TEXT
from .merge_step import MERGE_STEP
from .top_p import TOP_P

CHECKS = (MERGE_STEP, BITS, TOP_P, SCALING, CUT_THE_TEXT)
