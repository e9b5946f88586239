"""Checkpoints from elsewhere: models in folders, adapters' files, chat templates; and the families that are
known.
"""

from .folders import BASE, SHIPPED, add_marks, expect_own, load, load_model, save
from .templates import ChatTemplate, load_template

__all__ = ["BASE", "SHIPPED", "ChatTemplate", "add_marks", "expect_own", "load", "load_model",
           "load_template", "save"]
