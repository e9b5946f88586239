"""nanoGPT's published CPU recipe for tinyshakespeare, rebuilt: GPT-2's shape, AdamW, a cosine.

Without dropout, and without sampling.

The recipe: 4 layers x 128, 4 heads, 64 characters of context, 12 rows a step, 2,000 steps; rate 1e-3 down
to 1e-4 on a cosine after 100 steps of warmup; betas 0.9 and 0.99; weight decay 0.1 on matrices; gradients
cut to norm 1; no biases; head and embedding tied.

Sources: Radford et al. 2019 (the shape and its first weights); the README and config of karpathy/nanoGPT
(the numbers).
"""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, HEADS, WIDTH, CONTEXT, ROWS, STEPS, WARMUP, PEAK, LOW = 4, 4, 128, 64, 12, 2000, 100, 1e-3, 1e-4


class Block(nn.Module):
    """x + attention(norm(x)), then x + GELU's two layers of norm(x): (B, T, D) to (B, T, D)."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (part.view(B, T, HEADS, -1).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).split(WIDTH, dim=2))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)           # (B, H, T, E)
        x = x + self.o(out.transpose(1, 2).reshape(B, T, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT2(nn.Module):
    """Tokens (B, T) to logits (B, T, V)."""

    def __init__(self, vocab_size: int, seed: int):
        super().__init__()
        self.embed, self.places = nn.Embedding(vocab_size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # Into the residual stream: 2 a layer.
                writes = name.endswith(("o.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if writes else 0.02,
                                generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.places.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embed.weight)


def rate(step: int, steps: int = STEPS) -> float:
    """The rate at a step: a straight rise, then half a cosine down to a tenth."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / (steps - WARMUP)
    return LOW + 0.5 * (1 + math.cos(math.pi * done)) * (PEAK - LOW)


def run(ids: Tensor, vocab_size: int, seed: int, steps: int = STEPS) -> tuple[GPT2, float, int]:
    """Train on a text's ids (N,): (model, seconds, tokens).

    The clock runs over drawing, forward, backward and step.
    """
    model, generator = GPT2(vocab_size, seed), torch.Generator().manual_seed(seed)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": rest, "weight_decay": 0.0}],
                                  lr=PEAK, betas=(0.9, 0.99))
    window = torch.arange(CONTEXT + 1)
    begun = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        begins = torch.randint(len(ids) - CONTEXT, (ROWS, 1), generator=generator)
        rows = ids[begins + window]  # (B, T + 1)
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), time.perf_counter() - begun, steps * ROWS * CONTEXT
