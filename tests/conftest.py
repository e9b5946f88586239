"""Policies so small that every y can be listed, their log p taken the slow way, and differences to 1e-10.

Nothing here uses `minillm.logprob` or `minillm.identity`: what a test holds the package against is computed
apart from it.
"""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from minillm.transformer import Config, Transformer, readable_logits

torch.set_num_threads(1)


class Table(nn.Module):
    """p(y|x) with free logits for each text so far: no weight is shared, so no error can cancel another.

    The places that no log-probability of an answer depends on (inside the prompt, after the end, padding)
    hold NaN: a mask or a shift that is wrong by one reads it. Made for prompts, a vocabulary and a longest
    answer; `end` closes an answer.
    """

    def __init__(self, prompts, vocab_size, longest, seed, end=0):
        super().__init__()
        words = [i for i in range(vocab_size) if i != end]
        texts = [(*x, *y) for x in prompts for n in range(longest) for y in product(words, repeat=n)]
        self.row = {text: i for i, text in enumerate(texts)}
        self.theta = nn.Parameter(random(len(texts), vocab_size, seed=seed))
        self.config = SimpleNamespace(vocab_size=vocab_size, context=max(map(len, prompts)) + longest)

    def hidden(self, tokens):
        index = [[self.row.get(tuple(row[:t + 1]), -1) for t in range(len(row))] for row in tokens.tolist()]
        poison = torch.full((1, self.theta.shape[1]), torch.nan, dtype=torch.float64)
        return torch.cat([self.theta, poison])[torch.tensor(index)]

    def logits(self, hidden):
        return hidden

    def after(self, text):
        """Logits of what follows a text, straight from the table."""
        return self.theta[self.row[tuple(text)]]


class Tiny(Transformer):
    """A Transformer in float64 whose weights are large enough that every part of it moves the answer."""

    def __init__(self, seed=0, dtype=torch.float64, **shape):
        small = {"vocab_size": 3, "d_model": 8, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ff": 12,
                 "context": 8}
        super().__init__(Config(**small | shape), seed)
        self.to(dtype)
        liven(self, seed)

    def after(self, text):
        """Logits of what follows a text, by the readable path, one text at a time, no padding."""
        return readable_logits(self, torch.tensor([list(text)]))[0, -1]


def liven(model, seed=0):
    """Draw all weights, norms too, at a trained model's size: with the first ones all p are nearly even."""
    generator = torch.Generator().manual_seed(1000 + seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, dtype=torch.float64, generator=generator)
            weight.copy_(noise / math.sqrt(weight.shape[1]) * 1.5 if weight.ndim == 2 else 1 + 0.3 * noise)
    return model


PROMPTS = [[1], [2, 1]]  # of unequal length
V, LONGEST = 3, 3        # 15 answers: 1 + 2 + 4 closed by the end, 8 that were cut


def make_policy(name, seed=0, longest=LONGEST):
    """A policy over V tokens by name: "table" or "transformer", both in float64."""
    return Table(PROMPTS, V, longest, seed) if name == "table" else Tiny(seed)


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    """Each law is held on both: the table has no shared weights, the transformer has all of them shared."""
    return make_policy(request.param)


def slow_logp(policy, prompts, answers):
    """log p(y|x), (X, N), a token at a time from the policy's own `after`: no batch, no mask, no shift."""
    seen = {}

    def token_logp(text, token):
        if text not in seen:
            seen[text] = policy.after(text).log_softmax(-1)
        return seen[text][token]

    def answer_logp(x, y):
        return sum(token_logp((*x, *y[:t]), y[t]) for t in range(len(y)))

    return torch.stack([torch.stack([answer_logp(x, y) for y in answers]) for x in prompts])


def numeric_gradient(objective, parameters, directions=8, seed=0, step=4e-3):
    """(directions (K, P), slopes (K,)): central differences of objective(), twice extrapolated (Richardson).

    With steps h, h/2, h/4 the error is of order h^6, about 1e-13 here; rounding adds about 1e-16/h = 1e-13.
    The last two extrapolations must agree to 1e-8 of the largest slope, so the tolerance that callers use is
    one that was reached.
    """
    parameters = list(parameters)
    generator = torch.Generator().manual_seed(seed)
    start = torch.cat([p.detach().flatten() for p in parameters])
    ways = torch.randn(directions, len(start), dtype=torch.float64, generator=generator)
    ways /= ways.norm(dim=1, keepdim=True)
    rough, fine = [], []
    with torch.no_grad():
        for way in ways:
            d = []
            for h in (step, step / 2, step / 4):
                nn.utils.vector_to_parameters(start + h * way, parameters)
                above = float(objective())
                nn.utils.vector_to_parameters(start - h * way, parameters)
                d.append((above - float(objective())) / (2 * h))
            once = [(4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3]
            rough.append(once[1])
            fine.append((16 * once[1] - once[0]) / 15)
        nn.utils.vector_to_parameters(start.clone(), parameters)
    fine, rough = torch.tensor(fine, dtype=torch.float64), torch.tensor(rough, dtype=torch.float64)
    converged = (fine - rough).abs().max() < 1e-8 * fine.abs().max()
    assert converged, "the differences have not converged: take a smaller step"
    return ways, fine


def relative_error(gradients, differences):
    """Largest |gradient·direction − slope| over directions, as a share of the largest slope."""
    ways, slopes = differences
    flat = torch.cat([g.flatten() for g in gradients])
    return float((ways @ flat - slopes).abs().max() / slopes.abs().max())


def gradients_of(value, policy):
    """Autograd's gradient of a number in each parameter; zeros where it has none."""
    grads = torch.autograd.grad(value, list(policy.parameters()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, policy.parameters())]


def difference(some, others):
    """Largest difference of two lists of gradients, as a share of the largest number in the second."""
    scale = max(float(o.abs().max()) for o in others)
    return max(float((s - o).abs().max()) for s, o in zip(some, others)) / scale


def planted(F, batch, end=0):
    """F (B,), (B, T) or (B, T, V) with a bug in it, by the bug's name: each has shipped somewhere."""
    mask = batch.response_mask
    by_token = F[:, None] if F.ndim == 1 else F

    def times(factor):
        return by_token * (factor[..., None] if F.ndim == 3 else factor)

    return {"the sign is turned": -F,
            "the end token is dropped": times(batch.tokens != end),
            "the first token is cut": times(mask.long().cumsum(1) != 1),
            "a mean for a sum": times(1 / mask.sum(1, keepdim=True).expand_as(mask))}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))
