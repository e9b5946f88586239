"""when-to-look: accuracy, share of looks and worth at each threshold on p(look), and the best one."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M


def draw_looks(rng, k, kind="plain"):
    """p (Q,), alone, looked (Q,) bool, price (), thresholds (K,): eighths and sixteenths, which floats hold.

    Q is 4 or 8, so that every share and every worth is exact. The best threshold is one alone, and neither
    the most accurate nor the first of the row. kind "plain": no p is equal to a threshold. "equal": each
    threshold is some p. "ends": one at which every question is looked up, and one at which none is. "free":
    the price is 0. "ties": two thresholds or more are worth the most; the highest is neither first nor last.
    """
    Q, K = (4, 3) if k < 2 else (8, 3 + k % 3)
    while True:
        p = rng.integers(1, 15, Q) / 16
        p = np.round(p * 8) / 8 if kind == "equal" else np.floor(p * 8) / 8 + 1 / 16
        thresholds = rng.permutation(np.arange(1, 8))[:K] / 8
        if kind == "equal":
            levels = np.unique(p)
            if len(levels) < K:
                continue
            thresholds = rng.permutation(levels)[:K]
        if kind == "ends":
            thresholds = np.append(thresholds[:-2], [0.0, 1.125])[rng.permutation(K)]
        alone, looked = rng.random(Q) < 0.5, rng.random(Q) < 0.8
        price = 0.0 if kind == "free" else int(rng.integers(2, 9)) / 16
        inputs = {"p": p.astype(np.float32), "alone": alone, "looked": looked,
                  "price": np.array(price, np.float32), "thresholds": thresholds.astype(np.float32)}
        i = type("Inputs", (), inputs)
        if suits(i, kind):
            return inputs


def suits(i, kind):
    """Whether this input can show what it is drawn for."""
    accuracy, looks, worth, _ = figures(i)
    top = np.flatnonzero(worth == worth.max())
    highest = top[i.thresholds[top].argmax()]
    if kind == "ties":
        lowest = top[i.thresholds[top].argmin()]
        return len(top) > 1 and highest not in (top[0], top[-1]) or (
            len(top) == 2 and len(i.p) == 4 and highest == top[1] and lowest == top[0])
    if kind == "free":
        return len(top) == 1
    both = len(set(i.alone.tolist())) == len(set(i.looked.tolist())) == 2
    return len(top) == 1 and both and len(set(looks.tolist())) > 1 and (
        kind == "ends" or accuracy.argmax() != highest)


def marked(worth, thresholds, choose):
    """1 at the chosen of those that are worth the most, 0 elsewhere: (K,)."""
    top = np.flatnonzero(worth == worth.max())
    place = top[choose(thresholds[top])]
    return (np.arange(len(worth)) == place).astype(float)


def figures(i, looks=None, right=None, share=None, worth=None, mark=None, best=None):
    """accuracy, share of looks, worth and the best: (4, K), and ways to get them wrong.

    looks (Q, K): who is looked up at each threshold. right (Q, K): what is right. share, worth (K,): of the
    accuracy and the looks. mark: of worth and thresholds, the last row. best: what the last row goes by.
    """
    looks = i.p[:, None] >= i.thresholds if looks is None else looks
    right = np.where(looks, i.looked[:, None], i.alone[:, None]) if right is None else right(looks)
    accuracy, share = right.mean(0), looks.mean(0) if share is None else share(looks, right)
    worth = accuracy - i.price * share if worth is None else worth(accuracy, looks.mean(0), looks)
    goes_by = worth if best is None else best(accuracy, share)
    last = marked(goes_by, i.thresholds, np.argmax) if mark is None else mark(goes_by, i.thresholds)
    return np.stack([accuracy, share, worth, last])


def conditional(i):
    """Of the questions that are looked up, the share that is right; 0 where there is none."""
    def right(looks):
        found = (looks & i.looked[:, None]).sum(0) / np.maximum(looks.sum(0), 1)
        return np.broadcast_to(found, looks.shape)
    return right


def by_size(i):
    """The thresholds from small to large, whatever their order."""
    order = i.thresholds.argsort()
    return figures(i)[:, order]


def sorted_alone(i):
    """p sorted, and what is right left where it was."""
    return figures(i, np.sort(i.p)[:, None] >= i.thresholds)


def as_weights(i):
    """p is taken as the share of looks, whatever the threshold."""
    looks = np.broadcast_to(i.p[:, None], (len(i.p), len(i.thresholds)))
    return figures(i, looks, lambda looks: looks * i.looked[:, None] + (1 - looks) * i.alone[:, None])


WHEN_TO_LOOK = Check(
    name="when-to-look", title="When to look", minutes=15, difficulty=2,
    function="when_to_look", arguments=("p", "alone", "looked", "price", "thresholds"),
    compared="the figures",
    learned="You have the curve of this chapter, with its price: where looking begins to cost more than it "
            "brings.",
    task="for each threshold the share that is right, the share that is looked up, the first less price "
         "times the second, and 1 at the threshold that is worth the most, 0 elsewhere.",
    hints=(
        "p[:, None] >= thresholds is (Q, K): who is looked up at each threshold. A mean over the questions "
        "is row 1.",
        "torch.where(looks, looked[:, None], alone[:, None]) says who is right at each threshold. .float() "
        "makes numbers of True and False.",
        "Row 2 is row 0 less price times row 1. For row 3: worth == worth.max() marks all of the best. Among "
        "these, the highest threshold is wanted: put −1 in the place of the others' thresholds, and take "
        "argmax."),
    expected=figures,
    cases=(
        Case("the figures of a threshold are those of its own choice of questions.", draw_looks),
        Case("a question whose p is equal to the threshold is looked up.",
             lambda rng, k: draw_looks(rng, k, "equal"),
             lambda i, o: bool((np.abs(o.result[1] - (i.p[:, None] >= i.thresholds).mean(0)) < 1e-3).all())),
        Case("at threshold 0 every question is looked up, and above 1 none is.",
             lambda rng, k: draw_looks(rng, k, "ends"),
             lambda i, o: abs(o.result[1][i.thresholds == 0][0] - 1) < 1e-3
             and abs(o.result[1][i.thresholds > 1][0]) < 1e-3
             and abs(o.result[0][i.thresholds > 1][0] - i.alone.mean()) < 1e-3, draws=4),
        Case("where looking is free, a threshold is worth its accuracy.",
             lambda rng, k: draw_looks(rng, k, "free"),
             lambda i, o: bool((np.abs(o.result[2] - o.result[0]) < 1e-3).all()), draws=4),
        Case("exactly one threshold is marked: of those that are worth the most, the highest.",
             lambda rng, k: draw_looks(rng, k, "ties"),
             lambda i, o: np.array_equal(o.result[3], figures(i)[3]), draws=6)),
    misconceptions=(
        M("> for ≥",
          "A question whose p is equal to the threshold was not looked up. Is a > where a ≥ should be?",
          lambda i: figures(i, i.p[:, None] > i.thresholds)),
        M("looked up below the threshold",
          "Questions with a small p are looked up, and those with a large one are not.",
          lambda i: figures(i, i.p[:, None] < i.thresholds)),
        M("p for a decision",
          "p went in as a weight. A threshold decides: a question is looked up, or it is not.",
          as_weights),
        M("p sorted alone",
          "p was sorted, and the other columns were not. Each p belongs to its question.",
          sorted_alone),
        M("thresholds by size",
          "The columns are in the order of the thresholds' size. Keep the order in which they are given.",
          by_size),
        M("the two answers exchanged",
          "Where a question is looked up, the answer without looking was taken, and the other way round.",
          lambda i: figures(i, right=lambda looks: np.where(looks, i.alone[:, None], i.looked[:, None]))),
        M("right if either is",
          "A question counts as right if it is so with or without looking. Only one of the two is given.",
          lambda i: figures(i, right=lambda looks: np.broadcast_to((i.alone | i.looked)[:, None],
                                                                   looks.shape))),
        M("only what was looked up",
          "The accuracy is over the questions that are looked up. All are to be answered.",
          lambda i: figures(i, right=conditional(i))),
        M("share of right for share of looks",
          "Row 1 says how many of the looks ended right. A look costs whether it helps or not.",
          lambda i: figures(i, share=lambda looks, right: (looks & i.looked[:, None]).mean(0))),
        M("share of right for share of looks",
          "Row 1 says how many of the looks ended right. It should say how many looks there were.",
          lambda i: figures(i, share=lambda looks, right: (looks & i.looked[:, None]).mean(0),
                            worth=lambda a, share, looks: a - i.price * share)),
        M("how many for which share",
          "Row 1 counts the looks. A share is a count divided by how many questions there are.",
          lambda i: figures(i, share=lambda looks, right: looks.sum(0), worth=lambda a, share, looks:
                            a - i.price * share)),
        M("how many for which share",
          "Row 1 counts the looks, and the price was paid for that many. Divide by how many questions there "
          "are.",
          lambda i: figures(i, share=lambda looks, right: looks.sum(0),
                            worth=lambda a, share, looks: a - i.price * looks.sum(0))),
        M("the price of all looks",
          "The price was paid once for each look, and the accuracy is a share. Both must be per question.",
          lambda i: figures(i, worth=lambda a, share, looks: a - i.price * looks.sum(0))),
        M("worth without the price",
          "Row 2 is the accuracy. Looking costs something.",
          lambda i: figures(i, worth=lambda a, share, looks: a)),
        M("the price paid once",
          "The price was taken off once, however many questions are looked up.",
          lambda i: figures(i, worth=lambda a, share, looks: a - i.price)),
        M("the most accurate for the best",
          "Row 3 marks the threshold with the highest accuracy, whatever its looks cost.",
          lambda i: figures(i, best=lambda accuracy, share: accuracy)),
        M("the first of equals",
          "Of thresholds that are worth the same, the first of the row was marked. The highest should be: it "
          "looks least.",
          lambda i: figures(i, mark=lambda worth, t: marked(worth, t, lambda top: 0))),
        M("the last of equals",
          "Of thresholds that are worth the same, the last of the row was marked. The highest should be: it "
          "looks least.",
          lambda i: figures(i, mark=lambda worth, t: marked(worth, t, lambda top: -1))),
        M("the lowest of equals",
          "Of thresholds that are worth the same, the lowest was marked. The highest should be: it looks "
          "least.",
          lambda i: figures(i, mark=lambda worth, t: marked(worth, t, np.argmin))),
        M("all equals marked",
          "Of thresholds that are worth the same, all were marked. The highest alone should be: it looks "
          "least.",
          lambda i: figures(i, mark=lambda worth, t: (worth == worth.max()).astype(float)))))
