"""The checks, one module for each chapter. It leaves out how they are run: see grader/judge.py and grader/notebook.py."""

from . import chapter01, chapter02, chapter03, chapter06, chapter08, chapter10, chapter11, chapter13

CHAPTERS = {1: chapter01.CHECKS, 2: chapter02.CHECKS, 3: chapter03.CHECKS, 6: chapter06.CHECKS, 8: chapter08.CHECKS, 10: chapter10.CHECKS, 11: chapter11.CHECKS, 13: chapter13.CHECKS}
