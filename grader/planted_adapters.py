"""A low-rank adapter written right in five ways and wrong in eleven: what the exercise find-the-merge puts before a learner's test.

Each takes W (F, D), A (r, D), B (F, r) and alpha, and gives an object with forward(x), reference(x) and merge(). It leaves out the test that
tells them apart: that is the exercise. A grader of strangers' code keeps this module away from them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minillm.expect import expect, expect_tensor

from .planted import read_verdict


class Plain:
    """The map and its adapter side by side. The right code and the wrong ones below differ from it in a line or two."""

    def __init__(self, W: Tensor, A: Tensor, B: Tensor, alpha: float):
        self.W, self.A, self.B, self.scale, self.on = W.clone(), A.clone(), B.clone(), alpha / len(A), True

    def forward(self, x: Tensor) -> Tensor:
        """x (N, D) -> (N, F)."""
        out = x @ self.W.t()
        return out + self.scale * (x @ self.A.t()) @ self.B.t() if self.on else out

    def reference(self, x: Tensor) -> Tensor:
        """What the map alone gives, (N, F)."""
        return x @ self.W.t()

    def merge(self) -> None:
        """From here on W alone."""
        self.W = self.W + self.delta()
        self.on = False

    def delta(self) -> Tensor:
        """What the adapter adds to W, (F, D)."""
        return self.scale * self.B @ self.A


# right code


class Folded(Plain):
    """One product, by W and what the adapter adds to it."""

    def forward(self, x):
        return x @ (self.W + self.delta() if self.on else self.W).t()


class ByRanks(Plain):
    """One pair of vectors after the other."""

    def delta(self):
        return sum(self.scale * b[:, None] * a[None, :] for a, b in zip(self.A, self.B.t()))

    def forward(self, x):
        return torch.einsum("nd,fd->nf", x, self.W + self.delta()) if self.on else torch.einsum("nd,fd->nf", x, self.W)


class InFloat64(Plain):
    """Everything in float64, rounded at the end."""

    def forward(self, x):
        W = self.W.double() + (self.delta().double() if self.on else 0)
        return (x.double() @ W.t()).to(x.dtype)


class ScaleInB(Plain):
    """The scale is multiplied into B once, and is 1 from then on."""

    def __init__(self, W, A, B, alpha):
        super().__init__(W, A, B, alpha)
        self.B, self.scale = self.B * self.scale, 1.0


RIGHT = (Plain, Folded, ByRanks, InFloat64, ScaleInB)


# wrong code


class ScaleTwice(Plain):
    """merge multiplies by the scale what has it already."""

    def merge(self):
        self.W, self.on = self.W + self.scale * self.delta(), False


class ScaleForgotten(Plain):
    """merge adds B·A."""

    def merge(self):
        self.W, self.on = self.W + self.B @ self.A, False


class StillApplied(Plain):
    """merge adds to W, and the adapter goes on adding."""

    def merge(self):
        self.W = self.W + self.delta()


class Transposed(Plain):
    """merge adds (B·A)ᵀ where the shapes let it."""

    def merge(self):
        delta = self.delta()
        self.W, self.on = self.W + (delta.t() if delta.shape[0] == delta.shape[1] else delta), False


class Subtracted(Plain):
    """merge takes away what it should add."""

    def merge(self):
        self.W, self.on = self.W - self.delta(), False


class IntoTheirs(Plain):
    """merge writes into the W that it was given."""

    def __init__(self, W, A, B, alpha):
        super().__init__(W, A, B, alpha)
        self.W = W

    def merge(self):
        self.W += self.delta()
        self.on = False


class ReferenceOn(Plain):
    """The reference is scored with the adapter on."""

    def reference(self, x):
        return self.forward(x)


class LeftOff(Plain):
    """reference switches the adapter off, and nothing switches it on again."""

    def reference(self, x):
        self.on = False
        return self.forward(x)


class AlphaAlone(Plain):
    """α in place of α/r."""

    def __init__(self, W, A, B, alpha):
        super().__init__(W, A, B, alpha)
        self.scale = alpha


class AlphaByWidth(Plain):
    """α is divided by D: the other size of A."""

    def __init__(self, W, A, B, alpha):
        super().__init__(W, A, B, alpha)
        self.scale = alpha / A.shape[1]


class IntoTheirB(Plain):
    """merge multiplies the B that it was given by α/r, so that it can add B·A."""

    def __init__(self, W, A, B, alpha):
        super().__init__(W, A, B, alpha)
        self.B = B

    def merge(self):
        self.B *= self.scale
        self.W, self.on = self.W + self.B @ self.A, False


# (what is wrong, on what it shows, the code)
WRONG = (
    ("merge() multiplies by α/r twice", "forward before and after merge(), where α/r is not 1", ScaleTwice),
    ("merge() leaves α/r out", "forward before and after merge(), where α/r is not 1", ScaleForgotten),
    ("the adapter is still applied after merge()", "forward before and after merge()", StillApplied),
    ("merge() adds the transpose of B·A where W is square", "forward before and after merge(), with as many rows as columns in W", Transposed),
    ("merge() takes away what it should add", "forward before and after merge()", Subtracted),
    ("merge() writes into the W that it was given, which others may be using", "the tensor that you handed over, after merge()", IntoTheirs),
    ("the reference is computed with the adapter on", "the reference beside the product with W alone", ReferenceOn),
    ("after one call of reference() the adapter stays off", "forward before and after reference()", LeftOff),
    ("α stands for α/r", "a result that you know by hand, with a rank above 1", AlphaAlone),
    ("α is divided by the width D in place of the rank r", "a result that you know by hand, with r and D unequal", AlphaByWidth),
    ("merge() multiplies the B that it was given by α/r, and others may be using it", "all of the tensors that you handed over, after merge()",
     IntoTheirB),
)
BEFORE_AND_AFTER = 5  # so many of them, at the beginning, show where forward is compared before and after merge() alone

CODES = (*RIGHT, *(code for _, _, code in WRONG))


def handed_out(inside: type[Plain]) -> Callable[[Tensor, Tensor, Tensor, float], object]:
    """The function as the learner's test gets it: the same name, signature and argument checks, whatever is inside."""

    def adapt(W: Tensor, A: Tensor, B: Tensor, alpha: float):
        """A map W (F, D) with an adapter A (r, D), B (F, r) of strength alpha / r: so it claims."""
        expect_tensor("W", W, "F D", "float")
        F, D = W.shape
        expect_tensor("A", A, "r D", "float", D=D)
        expect_tensor("B", B, "F r", "float", F=F, r=len(A))
        expect(not any(t.requires_grad for t in (W, A, B)), "W, A, B", "asking for gradients", "give plain tensors")
        part = inside(W, A, B, float(alpha))

        class Adapted:
            """forward(x) and reference(x): (N, D) -> (N, F); merge() returns nothing."""

            def forward(self, x: Tensor) -> Tensor:
                """x (N, D) -> (N, F), with the adapter."""
                expect_tensor("x", x, "N D", "float", D=D)
                return part.forward(x)

            def reference(self, x: Tensor) -> Tensor:
                """x (N, D) -> (N, F), without the adapter."""
                expect_tensor("x", x, "N D", "float", D=D)
                return part.reference(x)

            def merge(self) -> None:
                """Add the adapter to the map."""
                part.merge()

        return Adapted()

    return adapt


def put_to_the_test(function, arguments, inputs):
    """A driver: what the learner's test says of code number `which`, which comes under the same name each time."""
    return read_verdict(function(handed_out(CODES[int(inputs["which"])])))
