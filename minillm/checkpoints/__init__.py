"""The shipped models, base/ and tuned/, read by `hub.load("base")` and `hub.load("tuned")`.

`python -m minillm.checkpoints` trains them again.
"""
