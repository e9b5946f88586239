"""The shipped models, read by `hub.load("base")` and so on: base/, tuned/, player/ and caller/.

`python -m minillm.checkpoints` trains them again; all but player, which is chapter 16's
(`python -m benchmarks.chapter16 --ship`).
"""
