"""y ~ p(·|x), many prompts at once, with a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .batch import Batch, batch_pairs
from .engine.decoding import Decoder, fits
from .expect import expect, expect_finite, expect_numbers, expect_prompts, expect_tensor, expect_whole
from .logprob import warp
from .transformer import Cache

ROWS = 256  # questions asked at once


@torch.no_grad()
def sample(model, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, n: int = 1,
           temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
           end: int | Sequence[int] | None = 0, generator: torch.Generator | None = None) -> Batch:
    """Draw n answers to each prompt. Rows come out prompt by prompt, n in a row: row i answers prompts[i //
    n].

    prompts: lists of ids, of any lengths ≥ 1. temperature 0 is greedy. end: the id that closes an answer, or
    several of which each does (None: never). The n answers to a prompt share its prefill, and a row that has
    ended is taken out of the computation.

    Returns a Batch: tokens (B·n, T) padded at the right with 0, response_mask (B·n, T) True on what the model
    wrote (the end token with it), logprobs (B·n, T) of each such token under the very distribution that drew
    it (temperature, top-k and top-p applied; 0 elsewhere), ended (B·n,) True where the model wrote the end
    itself, group (B·n,) the prompt's number.
    """
    expect_whole(1, n=n)
    ends = _ends(model, prompts, max_new_tokens, end, generator)
    hidden, cache = read(model, prompts, max_new_tokens)                            # (B, D)
    if n > 1:
        rows = torch.arange(len(prompts), device=hidden.device).repeat_interleave(n)
        cache.select(rows)
        hidden = hidden[rows]                                                       # (B·n, D)
    go_on = decode(model, cache)

    R = len(hidden)
    written = torch.zeros(R, max_new_tokens, dtype=torch.long, device=hidden.device)
    drawn = torch.zeros(R, max_new_tokens, dtype=torch.promote_types(hidden.dtype, torch.float32),
                        device=hidden.device)
    # The rows that are still in the cache: at first, all.
    live: Tensor | slice = slice(None)
    # Of these, the rows that have ended.
    done = torch.zeros(R, dtype=torch.bool, device=hidden.device)
    closing = torch.tensor(ends, dtype=torch.long, device=hidden.device)            # (number of ends,)
    for t in range(max_new_tokens):
        token, logp = next_token(model.logits(hidden), temperature, top_k, top_p, generator)    # (L,), (L,)
        written[live, t], drawn[live, t] = token, logp.to(drawn.dtype)
        if ends:
            done |= torch.isin(token, closing)
            ended = int(done.sum())
            if ended == len(done):
                break
            if ended >= 0.25 * len(done):  # taking rows out copies the cache: not for every row that ends
                keep = (~done).nonzero()[:, 0]
                cache.select(keep)
                live = keep if isinstance(live, slice) else live[keep]
                token, done = token[keep], done[keep]
        if t + 1 < max_new_tokens:
            hidden = go_on(token)                                                   # (L, D)
    return _gathered(prompts, n, written[:, :t + 1], drawn, closing)


@torch.no_grad()
def stream(model, prompt: Sequence[int], max_new_tokens: int, *, temperature: float = 1.0,
           top_k: int | None = None, top_p: float | None = None, end: int | Sequence[int] | None = 0,
           generator: torch.Generator | None = None) -> Iterator[tuple[int, float]]:
    """One answer to one prompt, as it is drawn: (id, log p) of each token, an end token too.

    All together they are what `sample` gives for this prompt and this generator; a test holds the two equal.
    Arguments are as there, and are checked when the first token is asked for.
    """
    ends = _ends(model, [prompt], max_new_tokens, end, generator)
    hidden, cache = read(model, [prompt], max_new_tokens)                           # (1, D)
    go_on = decode(model, cache)
    for t in range(max_new_tokens):
        token, logp = next_token(model.logits(hidden), temperature, top_k, top_p, generator)    # (1,), (1,)
        yield int(token), float(logp)
        if int(token) in ends:
            return
        if t + 1 < max_new_tokens:
            hidden = go_on(token)                                                   # (1, D)


def next_token(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
               generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw one token a row from logits (L, V): ids (L,), and log p of each as it was drawn, (L,)."""
    if temperature == 0:
        expect_finite("logits.amax(-1)", logits.amax(-1))  # argmax would take a NaN for the largest
        token = logits.argmax(-1)
        return token, torch.zeros_like(logits[:, 0])  # log 1
    logp = warp(logits, temperature, top_k, top_p)                                  # (L, V)
    token = draw(logp, generator)
    return token, logp.gather(-1, token[:, None])[:, 0]


def draw(logp: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One index from each row of log-probabilities (L, V) -> (L,): the first whose cumulated probability is
    above a uniform number."""
    expect_tensor("logp", logp, "L V", "float")
    expect_finite("logp.amax(-1)", logp.amax(-1))
    # Apple's GPUs have no doubles.
    exact = torch.float32 if logp.device.type == "mps" else torch.float64
    upto = logp.to(exact).exp().cumsum(-1)                                          # (L, V)
    # A NaN anywhere reaches the row's end.
    expect_numbers("logp", upto[:, -1])
    u = torch.rand(len(logp), 1, dtype=exact, device=logp.device, generator=generator)
    # Below the row's own total, whatever rounding made of it: what has probability 0 is never the first
    # above.
    below = u * upto[:, -1:] * (1 - 2 * torch.finfo(exact).eps)
    return torch.searchsorted(upto, below, right=True)[:, 0]


def read(model, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> tuple[Tensor, Cache]:
    """Read all prompts at once: the state behind each, (B, D), and a cache with room for what follows."""
    device = model.embed.weight.device
    lengths = torch.tensor([len(prompt) for prompt in prompts])                     # (B,)
    longest = int(lengths.max())
    pad = longest - lengths
    # Aligned at the right: all end together.
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    for i, (row, gap, prompt) in enumerate(zip(tokens, pad.tolist(), prompts)):
        ids = torch.tensor(list(prompt))
        expect(not ids.is_floating_point(), f"prompts[{i}]", prompt, "give ids: whole numbers")
        row[gap:] = ids
    # The last token written is never read, so the cache needs one place less.
    cache = Cache(model, len(prompts), longest + max_new_tokens - 1, pad.to(device))
    return model.hidden(tokens.to(device), cache)[:, -1], cache


def decode(model, cache: Cache) -> Callable[[Tensor], Tensor]:
    """A function from one new token a row, (L,), to the state behind it, (L, D): fast where that fits."""
    if fits(model):
        return Decoder(model, cache).hidden
    return lambda token: model.hidden(token[:, None], cache)[:, -1]


def ask(model, tokenizer, questions: Sequence[str], max_new_tokens: int = 64, *, temperature: float = 0.0,
        n: int = 1, generator: torch.Generator | None = None) -> list:
    """The model's answers to questions in words, as the tokenizer's Response (text, thought, ended): n to
    each, greedy by default.

    Answers stop at max_new_tokens, or where the context ends.
    """
    responses = []
    for i in range(0, len(questions), ROWS):
        prompts = [tokenizer.prompt(question) for question in questions[i:i + ROWS]]
        rooms = [min(max_new_tokens, model.config.context - len(prompt)) for prompt in prompts]
        expect(min(rooms) >= 1, "questions", f"up to {max(map(len, prompts))} tokens long",
               f"the context is {model.config.context}: ask shorter ones")
        answers = [None] * (n * len(prompts))
        for room in sorted(set(rooms)):  # a long question does not cut the answers to its neighbours
            some = [j for j, r in enumerate(rooms) if r == room]
            batch = sample(model, [prompts[j] for j in some], room, n=n, temperature=temperature,
                           end=tokenizer.end, generator=generator)
            for k, response in enumerate(batch.responses()):
                answers[some[k // n] * n + k % n] = tokenizer.read_response(response)
        responses += answers
    return responses


def _ends(model, prompts, max_new_tokens: int, end, generator) -> list[int]:
    """The ids that close an answer. ValueError for arguments that `sample` cannot use."""
    expect_prompts(prompts, max_new_tokens, model.config.context)
    ends = [] if end is None else list(end) if isinstance(end, (list, tuple)) else [end]
    for one in ends:
        expect_whole(0, model.config.vocab_size, end=one)
    device = model.embed.weight.device.type
    here = generator is None or generator.device.type == device
    expect(here, "generator", "on another device",
           f"the model is on {device}: make torch.Generator({device!r})")
    return ends


def _gathered(prompts, n: int, written: Tensor, drawn: Tensor, closing: Tensor) -> Batch:
    """What was written (R, t) behind its prompts. What a row drew behind its first end does not count."""
    stop = torch.isin(written, closing)                                             # (R, t)
    ended = stop.any(1)
    count = torch.where(ended, stop.int().argmax(1) + 1, written.shape[1]).tolist()
    pairs = [(prompts[i // n], row[:c]) for i, (row, c) in enumerate(zip(written.tolist(), count))]
    batch = batch_pairs(pairs).to(written.device)
    flat = torch.cat([row[:c] for row, c in zip(drawn, count)])
    batch.logprobs = torch.zeros(batch.tokens.shape, dtype=drawn.dtype, device=drawn.device)
    batch.logprobs = batch.logprobs.masked_scatter(batch.response_mask, flat)
    batch.ended, batch.group = ended, torch.arange(len(written), device=written.device) // n
    return batch
