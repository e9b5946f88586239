"""The check of chapter 16 on a reward for each step, beside the reward for the outcome."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M


def draw_chain(rng, k, kind="plain"):
    """counts (K,), n (), reward (), step (T,) with 0 on the question: all whole numbers but the reward.

    No two neighbouring values are equal, the last step changes the value, and no two steps have as many
    tokens. kind "level": as many continuations end right after a step as before it. "one step": K is 1.
    """
    K = 1 if kind == "one step" else 3 + k % 3
    n = 5 + k
    reward = (k + 1) % 2
    while True:
        counts = rng.integers(1, n, K)
        if kind == "level":
            counts[2] = counts[1]
        moved = np.diff(np.append(counts, reward * n))
        if (moved == 0).sum() == (kind == "level") and (kind != "plain" or (moved > 0).any()
                                                        and (moved < 0).any()):
            break
    sizes = rng.permutation(np.arange(2, 2 + K)) if K > 1 else np.array([2])
    step = np.repeat(np.arange(K + 1), [1 + k % 3, *sizes])
    return {"counts": counts.astype(np.int64), "n": np.array(n),
            "reward": np.array(float(reward), np.float32), "step": step.astype(np.int64)}


def values(i, last=None):
    """V of the question and of it with 1, 2, … K steps: (K + 1,)."""
    return np.append(i.counts / i.n, i.reward if last is None else last)


def two_rows(i, steps=None, outcome=None, question=(0.0, 0.0), size=None):
    """The outcome's F, and the steps': (2, T).

    steps (K,): a number for each step. outcome: one for all tokens of the chain. question: what its tokens
    get, in each row. size: what a step's number is divided by, of how many tokens the step has.
    """
    V = values(i)
    steps = np.diff(V) if steps is None else steps
    outcome = i.reward - V[0] if outcome is None else outcome
    step = i.step.astype(int)
    if size is not None:
        steps = steps / [size((step == t + 1).sum()) for t in range(len(steps))]
    rows = [np.full(len(step), float(outcome)), np.append(question[1], steps)[step]]
    rows[0][step == 0] = question[0]
    return np.stack(rows)


def at_the_last(i, both=False):
    """As two_rows, a step's number on its last token alone; both: and the outcome's on the chain's last."""
    step = np.append(i.step, -1)
    rows = two_rows(i)
    rows[1][step[:-1] == step[1:]] = 0
    if both:
        rows[0][:-1] = 0
    return rows


def a_token_a_step(i, row):
    """The numbers of a row on the first token of each step: (K,)."""
    return row[np.unique(i.step, return_index=True)[1][1:]]


def equal_on_a_step(i, rows):
    """Whether all tokens of a step, or of the question, have the same numbers."""
    same = i.step[1:] == i.step[:-1]
    return bool((np.abs(np.diff(rows, axis=1))[:, same] < 1e-3).all())


REWARD_FOR_A_STEP = Check(
    name="reward-for-a-step", title="A reward for each step", minutes=20, difficulty=2,
    function="two_rewards", arguments=("counts", "n", "reward", "step"), compared="F",
    learned="You have a reward that says which step helped and which one harmed. Nobody labelled a step: it "
            "was learned from outcomes. Added up over the steps it is the outcome's.",
    task="in row 0 R less V of the question on every token of the chain, in row 1 on every token of a step "
         "what this step added to V, and 0 on the question in both.",
    hints=(
        "Write V first: counts/n, K numbers, from the question alone up to K − 1 steps. What is V of the "
        "whole chain? Nothing is left to be continued there: you know how it ended.",
        "That makes K + 1 values. Step t leads from the prefix before it to the prefix after it: what did it "
        "add? These are K numbers, for the steps 1 to K.",
        "step says which number each token gets, and 0 stands for the question. Put a 0 in front of the K "
        "numbers, and step can be the index. Then row 0: the same number on all tokens whose step is not 0."),
    expected=two_rows,
    cases=(
        Case("a step's tokens have what the step added to V, and all tokens of the chain have what the whole "
             "chain added.", draw_chain),
        Case("all tokens of a step have the same number.", draw_chain,
             lambda i, o: equal_on_a_step(i, o.result), draws=4),
        Case("the tokens of the question have 0 in both rows.", draw_chain,
             lambda i, o: not o.result[:, i.step == 0].any(), draws=4),
        Case("one number from each step, added up, gives the outcome's F.", draw_chain,
             lambda i, o: abs(a_token_a_step(i, o.result[1]).sum() - o.result[0, -1]) < 1e-3, draws=4),
        Case("a step after which as many continuations end right as before it has 0.",
             lambda rng, k: draw_chain(rng, k, "level"),
             lambda i, o: bool((np.abs(o.result[1, i.step == 2]) < 1e-3).all()), draws=4),
        Case("a chain of one step is its outcome: both rows are the same.",
             lambda rng, k: draw_chain(rng, k, "one step"),
             lambda i, o: bool((np.abs(o.result[0] - o.result[1]) < 1e-3).all()), draws=4)),
    misconceptions=(
        M("V for what a step added",
          "A step has V of its prefix here. After a good beginning V is high, whatever the step did: a step "
          "is worth what it changed.",
          lambda i: two_rows(i, values(i)[1:])),
        M("V for what a step added",
          "A step has V of the prefix before it here, which the step has not changed yet. A step is worth "
          "what it changed.",
          lambda i: two_rows(i, values(i)[:-1])),
        M("spread over the tokens",
          "A step's number was divided by how many tokens the step has. Every token of it gets the whole "
          "number, as every token of y does in the line: a long step would learn less.",
          lambda i: two_rows(i, size=float)),
        M("on the last token alone",
          "Only the last token of each step has its number. A step's log p is a sum over all its tokens.",
          at_the_last),
        M("on the last token alone",
          "Only the last token of each step, and of the chain, has a number. log p is a sum over all tokens.",
          lambda i: at_the_last(i, both=True)),
        M("one step early",
          "A step has what the step after it added. V of prefix t is what there is after step t.",
          lambda i: two_rows(i, np.append(np.diff(values(i))[1:], 0.0))),
        M("one step late",
          "A step has what the step before it added. V of prefix t is what there is after step t.",
          lambda i: two_rows(i, np.append(0.0, np.diff(values(i))[:-1]))),
        M("the last step without the outcome",
          "The last step has 0 here. After it the chain has ended, and you know how: what is V then?",
          lambda i: two_rows(i, np.diff(values(i, i.counts[-1] / i.n)))),
        M("the last step without the outcome",
          "After the last step V is 0 here, whether the chain ended right or not. You know how it ended.",
          lambda i: two_rows(i, np.diff(values(i, 0.0)))),
        M("the question's tokens too",
          "The tokens of the question have a number. The model did not write them. In an index, −1 is the "
          "last place.",
          lambda i: two_rows(i, question=(0.0, np.diff(values(i))[-1]))),
        M("the question's tokens too",
          "The tokens of the question have the outcome's F in row 0. The model did not write them.",
          lambda i: two_rows(i, question=(i.reward - values(i)[0], 0.0))),
        M("the question's tokens too",
          "The tokens of the question have a number in both rows. The model did not write them.",
          lambda i: two_rows(i, question=(i.reward - values(i)[0], np.diff(values(i))[-1]))),
        M("the question's tokens too",
          "The tokens of the question have V of the question. The model did not write them: nothing is "
          "learned from them.",
          lambda i: two_rows(i, question=(0.0, values(i)[0]))),
        M("counts for shares",
          "The counts were not divided by n. V is a share, and R is too: they can be compared.",
          lambda i: two_rows(i, np.diff(np.append(i.counts, i.reward)), i.reward - i.counts[0])),
        M("the difference turned",
          "The sign of the steps' numbers is turned: a step that helped is held down here.",
          lambda i: two_rows(i, -np.diff(values(i)))),
        M("all that comes after",
          "A step has here what it and all later steps added together. Then a bad step that was made good "
          "later looks good.",
          lambda i: two_rows(i, i.reward - values(i)[:-1])),
        M("all that came before",
          "A step has here what it and all earlier steps added together. Compare with the prefix just before "
          "it, not with the question.",
          lambda i: two_rows(i, values(i)[1:] - values(i)[0])),
        M("the outcome without V of the question",
          "Row 0 is R here. A right answer to an easy question teaches less than one to a hard question: "
          "take off what was expected before the chain.",
          lambda i: two_rows(i, outcome=i.reward)),
        M("another mean for V of the question",
          "In row 0 the mean of all V was taken off. What was expected before the chain is V of the "
          "question.",
          lambda i: two_rows(i, outcome=i.reward - (i.counts / i.n).mean())),
        M("another mean for V of the question",
          "In row 0 the mean of all V was taken off. What was expected before the chain is V of the "
          "question.",
          lambda i: two_rows(i, outcome=i.reward - values(i).mean())),
        M("divided in whole numbers",
          "A division in whole numbers threw the fraction away: V is 0 for all that is not certain.",
          lambda i: two_rows(i, np.diff(np.append(i.counts // i.n, i.reward)),
                             i.reward - i.counts[0] // i.n)),
        M("one right continuation for all",
          "V is 1 here as soon as one continuation ended right. That says that it can be done; V says how "
          "likely it is.",
          lambda i: two_rows(i, np.diff(np.append(i.counts > 0, i.reward).astype(float)),
                             i.reward - float(i.counts[0] > 0))),
        M("rows exchanged",
          "The rows are exchanged. Row 0 is the outcome's F.",
          lambda i: two_rows(i)[::-1])))
