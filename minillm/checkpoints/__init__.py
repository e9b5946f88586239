"""The shipped base model (base/), read by `hub.load("base")`; `python -m minillm.checkpoints` trains it again."""
