"""One file for each F. `ls` is the syllabus; no method imports another, and there is no registry to look one up in.

Each file holds `coefficient(...)`, which is F: pure, unreduced, no gradient through it; and `loss(...)`, the loss as the
paper prints it, one number an answer or a token. A test holds the gradient of the one equal to that of the other. Where answers are
compared, the batch's rows are the answers, and `pairs` says how many comparisons they make.
"""
