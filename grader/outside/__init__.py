"""What knows the answers: how a check is judged and said, and the checks of each chapter."""

from . import (chapter00, chapter01, chapter02, chapter03, chapter06, chapter08, chapter10, chapter11,
               chapter13, chapter15, chapter16, chapter17, chapter18, chapter19)

CHAPTERS = {
    0: chapter00.CHECKS,
    1: chapter01.CHECKS,
    2: chapter02.CHECKS,
    3: chapter03.CHECKS,
    6: chapter06.CHECKS,
    8: chapter08.CHECKS,
    10: chapter10.CHECKS,
    11: chapter11.CHECKS,
    13: chapter13.CHECKS,
    15: chapter15.CHECKS,
    16: chapter16.CHECKS,
    17: chapter17.CHECKS,
    18: chapter18.CHECKS,
    19: chapter19.CHECKS,
}
