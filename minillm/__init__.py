"""One gradient: E over (x, y) of [ F(x, y) · ∇ log p(y|x) ]. A method is who makes x, who makes y, and what F
is.

Here are the identity and the table of methods; everything else is imported from its module.
"""

from .identity import exact_gradient, every_answer, expectation, surrogate
from .methods import METHODS, Method, table

__all__ = ["METHODS", "Method", "exact_gradient", "every_answer", "expectation", "surrogate", "table"]
__version__ = "0.1.0"
