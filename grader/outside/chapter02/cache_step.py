"""The check of cache-step: one new token meets all that a KV cache holds, with grouped queries.

There is no rotation, and no padding.
"""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M, close


def draw_step(rng, k, alike=False, own=False):
    """q (B, H, E), k, v (B, K, E), keys, values (B, K, S, E); K = 2 or 3 and H = 2K or 3K.

    alike: values of a key head all the same. own: the new key is so near to every query of its group, and
    the old ones so far, that each head sees the new token alone.
    """
    B, K, G, S, E = (((1, 2, 2, 2, 2), (1, 3, 2, 2, 2), (2, 2, 3, 3, 2))[k]
                     if k < 3
                     else (2, 2 + k % 2, 2 + (k + 1) % 2, 3 + k % 4, 4 + k % 3))
    drawn = {"q": (B, K * G, E), "k": (B, K, E), "v": (B, K, E), "keys": (B, K, S, E), "values": (B, K, S, E)}
    for name, shape in drawn.items():
        size = 2 if name in ("q", "k", "keys") else 1
        drawn[name] = np.round(rng.normal(size=shape) * size, 1).astype(np.float32)
    if alike:
        drawn["values"] = np.repeat(drawn["v"][:, :, None], S, axis=2)
    if own:
        drawn["q"] = np.abs(drawn["q"]) + 1
        drawn["k"] = np.full_like(drawn["k"], 30)
        drawn["keys"] = np.full_like(drawn["keys"], -30)
    return drawn


def step(i, keys=None, values=None, tiled=False, scale=None, only=slice(None), axis=-1):
    """Attention of one query a head to keys (B, K, S, E), by default the old and the new: (B, H, E)."""
    B, H, E = i.q.shape
    keys = np.concatenate([i.keys, i.k[:, :, None]], 2) if keys is None else keys
    values = np.concatenate([i.values, i.v[:, :, None]], 2) if values is None else values
    G = H // keys.shape[1]
    spread = (lambda a: np.tile(a, (1, G, 1, 1))) if tiled else (lambda a: np.repeat(a, G, 1))
    # (B, H, S, E)
    keys, values = spread(keys)[:, :, only], spread(values)[:, :, only]
    score = np.einsum("bhe,bhse->bhs", i.q, keys) / (np.sqrt(E) if scale is None else scale)
    weights = np.exp(score - score.max(axis, keepdims=True))
    return np.einsum("bhs,bhse->bhe", weights / weights.sum(axis, keepdims=True), values)


def one_set(a):
    """The first keys' head in the place of all: (B, K, …) -> (B, K, …)."""
    return np.repeat(a[:, :1], a.shape[1], 1)


def all_of(old, new):
    """What is cached and what is new: (B, K, S, E), (B, K, E) -> (B, K, S + 1, E)."""
    return np.concatenate([old, new[:, :, None]], 2)


def with_zeros(old, new):
    """What is cached, a row of zeros, and what is new: (B, K, S + 2, E)."""
    return all_of(all_of(old, 0 * new), new)


def by_the_number_of_sets(i):
    """Head h with the keys of set h // K; ValueError where there is no such set."""
    K, of = i.k.shape[1], np.arange(i.q.shape[1]) // i.k.shape[1]
    if of.max() >= K:
        raise ValueError("no such set of keys")
    return step(i, all_of(i.keys, i.k)[:, of], all_of(i.values, i.v)[:, of])


def in_the_last_place(old, new):
    """The new one written over the last old one: (B, K, S, E)."""
    return np.concatenate([old[:, :, :-1], new[:, :, None]], 2)


def of_the_group(values, i):
    """values (B, K, E) for each of the H heads, by groups: (B, H, E)."""
    return np.repeat(values, i.q.shape[1] // values.shape[1], 1)


CACHE_STEP = Check(
    name="cache-step", title="One token more", minutes=25, difficulty=3,
    function="one_token_more", arguments=("q", "k", "v", "keys", "values"),
    task="for each head the values of all S + 1 tokens, weighed by the softmax of q·k/√E, with the keys and "
         "values of the head's own group.",
    hints=(
        "First the cache: torch.cat([keys, k[:, :, None]], dim=2) holds the keys of S + 1 tokens, (B, K, S + "
        "1, E). The values likewise. Is anything among them in the new token's future?",
        "Heads 0 to G − 1 share keys' head 0, the next G share head 1, and so on: q.view(B, K, G, E) says "
        'so. Then the scores are an einsum with the letters "bkge" and "bkse".',
        "From there it is attention as before: divide by √E, softmax over s, mix the values. The result is "
        "(B, K, G, E), and flatten(1, 2) makes heads of it again. What arguments hold is not to be changed: "
        "the caller keeps the cache."),
    expected=step,
    cases=(
        Case("the weights sum to one: where all values of a group are alike, that is what comes out.",
             lambda rng, k: draw_step(rng, k, alike=True),
             lambda i, o: close(o.result, of_the_group(i.v, i)), draws=4),
        Case("the new token sees itself: where its key is by far the nearest, its value comes out.",
             lambda rng, k: draw_step(rng, k, own=True),
             lambda i, o: close(o.result, of_the_group(i.v, i)), draws=4),
        Case("every token that is cached counts, and each head looks at the keys of its own group.",
             draw_step)),
    misconceptions=(
        M("the new token left out",
          "It looks at the cache alone. The new token sees itself too: append its key and value first.",
          lambda i: step(i, i.keys, i.values)),
        M("only the first key",
          "It sees the oldest token alone. That is a causal mask laid at the top left: the query of row 0 "
          "sees key 0. This query stands at the end, and sees all.",
          lambda i: step(i, only=slice(0, 1))),
        M("itself alone",
          "It sees only the new token. All that was read before is in the cache.",
          lambda i: step(i, only=slice(-1, None))),
        M("groups laid out in turn",
          "Head h was given keys' head h mod K. Heads 0 to G − 1 share keys' head 0: copies stand side by "
          "side (repeat_interleave), not one set after the other (repeat).",
          lambda i: step(i, tiled=True)),
        M("one set of keys for all",
          "All heads use the first keys' head. That is multi-query attention; here each group has its own.",
          lambda i: step(i, one_set(all_of(i.keys, i.k)), one_set(all_of(i.values, i.v)))),
        M("the last one overwritten",
          "The new key and value stand in the place of the last cached ones. They come behind them.",
          lambda i: step(i, in_the_last_place(i.keys, i.k), in_the_last_place(i.values, i.v))),
        M("keys for values", "It mixes keys. Keys are what is matched; the values are what is handed over.",
          lambda i: step(i, values=all_of(i.keys, i.k))),
        M("a row of zeros",
          "There is a row of zeros among keys and values, as where the new one is written a place too late. "
          "It has a score of 0, and so a weight.",
          lambda i: step(i, with_zeros(i.keys, i.k), with_zeros(i.values, i.v))),
        M("keys in front, values behind",
          "The new key comes first and the new value last, so every value got the weight of another token.",
          lambda i: step(i, np.concatenate([i.k[:, :, None], i.keys], 2))),
        M("divided by K for G",
          "Head h was given set h // K. G heads share one: it is h // G.",
          by_the_number_of_sets),
        M("the first one dropped",
          "The oldest cached token is missing. The new one comes behind all that are there.",
          lambda i: step(i, only=slice(1, None))),
        M("the new token twice", "The new token counts twice.",
          lambda i: step(i, all_of(all_of(i.keys, i.k), i.k), all_of(all_of(i.values, i.v), i.v))),
        M("not divided by √E", "The scores were not divided by √E.", lambda i: step(i, scale=1.0)),
        M("divided by the root of the places",
          "The scores were divided by the root of S + 1. The sum runs over E numbers.",
          lambda i: step(i, scale=np.sqrt(i.keys.shape[2] + 1))),
        M("softmax over the heads",
          "The softmax runs over heads. Each head's own weights on the S + 1 tokens sum to one.",
          lambda i: step(i, axis=1)),
        M("heads averaged in their group",
          "The heads of a group all give the same. They share keys and values; each has a query of its own.",
          lambda i: of_the_group(step(i).reshape(len(i.q), i.k.shape[1], -1, i.q.shape[2]).mean(2), i))))
