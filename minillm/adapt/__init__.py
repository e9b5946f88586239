"""θ: which numbers are trained, and how the others are kept: low-rank adapters, weights in few bits."""
