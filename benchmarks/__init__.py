"""Speed beside peers on a CPU, measured in pairs: `python -m benchmarks`.

Quality is measured only where a row says so.
"""
