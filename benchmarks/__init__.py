"""Speed beside peers, measured in pairs: `python -m benchmarks`.

It leaves out GPUs, and quality except where a row says so.
"""
