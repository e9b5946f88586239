"""The checks of chapter 19, in the order of its exercises."""

from .bm25 import BM25_BY_HAND
from .find_the_stale import FIND_THE_STALE
from .looking import WHEN_TO_LOOK
from .strict import STRICT_AND_RELAXED

CHECKS = (BM25_BY_HAND, WHEN_TO_LOOK, STRICT_AND_RELAXED, FIND_THE_STALE)
