"""The checks of chapter 17, in the order of its exercises."""

from .answer import ANSWER_THE_CALL
from .find_the_reply import FIND_THE_REPLY
from .gain import KEEP_THE_CALL
from .luck import LUCK_IN_THE_FILTER
from .reply_mask import MASK_OF_A_REPLY

CHECKS = (MASK_OF_A_REPLY, ANSWER_THE_CALL, KEEP_THE_CALL, LUCK_IN_THE_FILTER, FIND_THE_REPLY)
