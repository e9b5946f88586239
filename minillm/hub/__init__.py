"""Checkpoints from elsewhere: whole models (folders), adapters' files, the families that are known."""

from .folders import BASE, SHIPPED, add_marks, expect_own, load, load_model, save

__all__ = ["BASE", "SHIPPED", "add_marks", "expect_own", "load", "load_model", "save"]
