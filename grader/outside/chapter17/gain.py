"""The check of chapter 17 on Toolformer's filter: by how much a call makes the next tokens easier."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M

WEIGHTS = np.array([1, 0.8, 0.6, 0.4, 0.2])
NO_CALL, NO_REPLY, REPLY = range(3)


def draw_calls(rng, k, kind="plain"):
    """logp (N, 3, T), place (N,), tau (): candidates of which some are kept and some are not.

    The reply helps some candidates and harms others; where it helps, at times the call alone helps nearly as
    much. kind "end": fewer than five tokens are left; "call helps": the call alone does better than none;
    "harms": the reply makes the next tokens harder; "later": what the reply helps is five tokens away or
    more; "before": log p differs in front of the call.
    """
    N, T = 2 + k % 3, 9 + k % 2
    tau = 0.25 if k % 2 else 0.5
    place = rng.integers(2, T - 5, N)
    if kind == "end":
        place = rng.integers(T - 4, T, N)
    while True:
        level = -rng.uniform(1, 6, (N, 1, T))
        helps = np.zeros((N, 3, T))
        sign = np.where(np.arange(N) % 2, -1, 1)[:, None] * (-1 if k == 1 else 1)
        helps[:, REPLY] = sign * rng.uniform(-0.3, 3, (N, T))
        helps[:, NO_REPLY] = rng.uniform(-0.8, 0.8, (N, T))
        if kind == "call helps":
            helps[:, REPLY] = rng.uniform(0.2, 2.5, (N, T))
            helps[:, NO_REPLY] = helps[:, REPLY] * rng.uniform(0.2, 1, (N, 1))
            helps[:, NO_REPLY] += rng.uniform(-0.2, 0.2, (N, T))
        elif kind == "harms":
            helps[:, REPLY] = -rng.uniform(0.5, 3, (N, T))
        elif kind == "later":
            near = np.arange(T) < place[:, None] + 5
            helps[:, REPLY] = np.where(near, rng.uniform(-0.1, 0.1, (N, T)), rng.uniform(2, 4, (N, T)))
        behind = np.arange(T) >= place[:, None]
        if kind != "before":
            helps *= behind[:, None]
        else:
            helps[:, REPLY] = np.where(behind, helps[:, REPLY], rng.uniform(0.5, 3, (N, T)))
        logp = np.minimum(level + helps, -0.05).round(2).astype(np.float32)
        gain = gains(logp, place)
        mixed = kind not in ("plain", "call helps") or (gain > tau).any() and (gain < tau).any()
        if mixed and (np.abs(gain - tau) > 0.03).all():
            return {"logp": logp, "place": place.astype(np.int64), "tau": np.array(tau, np.float32)}


def losses(logp, place, weights=WEIGHTS, shift=0, divide=None):
    """L of each candidate and each way: (N, 3). divide: what the weights are divided by, 3 if not given.

    weights: a row, or a function of how many tokens are left.
    """
    N, _, T = logp.shape
    out = np.zeros((N, 3))
    for n, i in enumerate(np.asarray(place).astype(int) + shift):
        w = weights(T - i) if callable(weights) else weights[:T - i]
        w = w / (WEIGHTS.sum() if divide is None else divide(w))
        out[n] = -(logp[n, :, i:i + len(w)].astype(float) * w).sum(1)
    return out


def gains(logp, place, less=np.minimum, **how):
    """L− less L+ of each candidate: (N,)."""
    L = losses(logp, place, **how)
    return less(L[:, NO_CALL], L[:, NO_REPLY]) - L[:, REPLY]


def kept(i, gain=None, **how):
    """The gain of what is kept, 0 elsewhere: (N,)."""
    gain = gains(i.logp, i.place, **how) if gain is None else gain
    return np.where(gain >= i.tau, gain, 0.0)


def token_by_token(i):
    """The smaller of the two losses at each token, and not of their sums."""
    loss = -i.logp.astype(float)
    best = np.minimum(loss[:, NO_CALL], loss[:, NO_REPLY])
    made = np.stack([-best, -best, i.logp[:, REPLY]], 1)
    return kept(i, gains(made, i.place))


def log_p_for_loss(i):
    """Log-probabilities in the place of losses: the sign and the choice are both turned."""
    L = -losses(i.logp, i.place)
    return kept(i, np.minimum(L[:, NO_CALL], L[:, NO_REPLY]) - L[:, REPLY])


def all_equal(left):
    """The same weight on each token left."""
    return np.ones(left)


def first_five(left):
    """The same weight on five tokens."""
    return np.ones(min(5, left))


KEEP_THE_CALL = Check(
    name="keep-the-call", title="Which calls are kept", minutes=15, difficulty=2,
    function="gain_of_kept", arguments=("logp", "place", "tau"), compared="the gain",
    learned="You have Toolformer's filter: nobody labelled a call, and yet it is known which ones are worth "
            "learning, because they make the next words easier.",
    task="L− less L+ of each candidate where that is tau or more, and 0 elsewhere.",
    hints=(
        "Begin with one candidate and one of its three rows. place says which token is the first behind the "
        "call. It has the weight 1, the next 0.8, and so on: five tokens, or as many as there are.",
        "torch.arange(T) - place[:, None] is t of every token, negative in front of the call. From it, "
        "weights for all tokens of all candidates at once: (1 - 0.2 * t), 0 where that is below 0 and where "
        "t is. Then divide.",
        "L = -(w * logp).sum of each row: (N, 3). Then L−, the smaller of the first two: the better of two "
        "ways to do without the reply. Last, torch.where(gain >= tau, gain, 0.0)."),
    expected=kept,
    cases=(
        Case("a call is kept if its reply makes the next tokens easier by tau or more.", draw_calls,
             lambda i, o: bool(((o.result > 0) == (kept(i) > 0)).all())),
        Case("the reply must help more than the call alone does, where that does better than no call.",
             lambda rng, k: draw_calls(rng, k, "call helps"),
             lambda i, o: bool((o.result <= gains(i.logp, i.place) + 1e-3).all())),
        Case("a reply that makes the next tokens harder is never kept.",
             lambda rng, k: draw_calls(rng, k, "harms"), lambda i, o: not o.result.any(), draws=4),
        Case("what comes five tokens behind the call or later counts for nothing.",
             lambda rng, k: draw_calls(rng, k, "later"), lambda i, o: not o.result.any(), draws=4),
        Case("what stands in front of the call counts for nothing.",
             lambda rng, k: draw_calls(rng, k, "before")),
        Case("where the text ends within five tokens, the weights stay what they are.",
             lambda rng, k: draw_calls(rng, k, "end"))),
    misconceptions=(
        M("a mean for the weights",
          "All tokens behind the call count equally. A reply is to help at once: the next token has the "
          "weight 1, and the sixth has none.",
          lambda i: kept(i, weights=all_equal, divide=np.sum)),
        M("a mean for the weights",
          "The next five tokens count equally. The weights fall from one to the next.",
          lambda i: kept(i, weights=first_five, divide=len)),
        M("a mean for the weights",
          "The next five tokens count equally. The weights fall from one to the next.",
          lambda i: kept(i, weights=first_five, divide=lambda w: 5)),
        M("a sum without weights",
          "All tokens behind the call were added up, with the weight 1 each. A long text then decides on a "
          "call far in front of it.",
          lambda i: kept(i, weights=all_equal, divide=lambda w: 1)),
        M("the weights do not sum to 1",
          "The weights were not divided by their sum.",
          lambda i: kept(i, divide=lambda w: 1)),
        M("the weights do not sum to 1",
          "The weights were divided by 5. Their sum is another number.",
          lambda i: kept(i, divide=lambda w: 5)),
        M("divided by the weights that are left",
          "Where the text ends early, the weights were divided by the sum of those that are left. They are "
          "divided by 3 everywhere: fewer tokens are less to gain.",
          lambda i: kept(i, divide=np.sum)),
        M("the larger for the smaller",
          "L− is here the larger of the two losses. A reply must beat the better of the two ways to do "
          "without it.",
          lambda i: kept(i, less=np.maximum)),
        M("against no call alone",
          "L+ was compared with no call alone. The call without a reply may help as well: then it is not the "
          "reply that helps.",
          lambda i: kept(i, less=lambda none, empty: none)),
        M("against the empty reply alone",
          "L+ was compared with the call without its reply alone. If that does harm, any reply looks good.",
          lambda i: kept(i, less=lambda none, empty: empty)),
        M("the mean of the two",
          "L− is here the mean of the two losses. It is the smaller one.",
          lambda i: kept(i, less=lambda none, empty: (none + empty) / 2)),
        M("the smaller token by token",
          "The smaller of the two was taken at each token. Take it of the two sums: a model goes one way or "
          "the other.",
          token_by_token),
        M("the sign turned",
          "L+ less L− was taken: this keeps the calls that make the next tokens harder.",
          lambda i: kept(i, -gains(i.logp, i.place))),
        M("log p for the loss",
          "log p was taken for a loss. A loss is −log p: with the sign, the smaller one is another too.",
          log_p_for_loss),
        M("from the token before the call",
          "The weights begin at the token in front of the call, which the call cannot help.",
          lambda i: kept(i, shift=-1)),
        M("from the second token on",
          "The weights begin one token too late. place is the first token behind the call, and it has the "
          "weight 1.",
          lambda i: kept(i, shift=1)),
        M("the text's first tokens",
          "The weights stand on the first tokens of the text, and not on those behind the call.",
          lambda i: kept(i, gains(i.logp, 0 * i.place))),
        M("nothing is turned away",
          "The gain of all calls is here. Below tau a call is not kept: 0.",
          lambda i: gains(i.logp, i.place)),
        M("tau taken off",
          "What is above tau is here. tau decides who is kept, and is not taken off.",
          lambda i: np.maximum(gains(i.logp, i.place) - i.tau, 0))))
