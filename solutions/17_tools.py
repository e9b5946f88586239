# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 17. Tools
#
# Five exercises to chapter 17, about an hour and a half. The first four ask for one short function each; in the last you write a test that finds bugs. `check("NAME", function)` says what is wrong and on which small input it shows. `hint("NAME")` opens one hint at a time. `status()` says where you are.
#
# The words are the chapter's: a model writes a call and stops; a tool writes the reply behind it; the model goes on. All of this is $y$, and $x$ is what was asked. Shapes: T tokens, C calls, N candidates, Q questions, B rows of a batch.

# %%
import torch

from grader import check, hint, status
from minillm.tokenizer import REPLY

# %% [markdown]
# ## 1. The mask of a reply
#
# `mask-of-a-reply` · difficulty ★☆☆ · 10 minutes
#
# The model learns from what it wrote itself, and a tool wrote some of $y$. Make the mask.
#
# A row of tokens is $x$, then $y$, then padding. In $y$ a call stands between the marks `[CALL]` and `[/CALL]`; the model wrote these marks too. If a tool answered, its reply follows at once, between `[REPLY]` and `[/REPLY]`; the model wrote neither of these two. A model may also write a `[REPLY]` of its own, and make up what stands behind it. No tool has run then, and those words are the model's.
#
# - `tokens` (T,), whole numbers. The ids of the marks are 5, 6, 7, 8, in the order of above, and `REPLY` is 7. The end token is 0, and so is the padding.
# - `n_x`, `n_y` (): how many tokens $x$ has, and $y$.
# - `calls` (C, 2), whole numbers: a row for each call that a tool answered, with two places in `tokens`, that of its `[CALL]` and that of its reply's `[/REPLY]`. The first `[REPLY]` between them is the tool's. C may be 0.
# - returns (T,), bool: True on what the model wrote.
#
# An example. `tokens = [1, 20, 2, 5, 30, 6, 7, 40, 8, 50, 0, 0]`, `n_x` 3, `n_y` 8, `calls = [[3, 8]]`. The mask is True at the places 3, 4, 5, 9 and 10.

# %% tags=["exercise"]
# exercise: mask-of-a-reply
def reply_mask(tokens, n_x, n_y, calls):
    """tokens (T,), n_x (), n_y (), calls (C, 2) -> (T,) bool: True on what the model wrote."""
    ### BEGIN SOLUTION
    t = torch.arange(len(tokens))
    mask = (t >= n_x) & (t < n_x + n_y)
    for call, end in calls.tolist():
        reply = call + tokens[call:].tolist().index(REPLY)
        mask[reply:end + 1] = False
    return mask
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("mask-of-a-reply", reply_mask)

# %% [markdown]
# ## 2. Who answers the call
#
# `answer-the-call` · difficulty ★★☆ · 20 minutes
#
# A model that calls tools is a model and a loop. Write the loop, in plain texts. The model is a function: `go_on(text)` takes all the text there is so far and returns what comes next, up to and with the next `</call>`, or up to the end of the answer.
#
# If what it has just written ends in `</call>`, there is a call to answer. The call stands behind the last `<call>` and looks like `name(argument)`: the argument is all between the first bracket and the last. `tools[name](argument)` gives the reply, a text. It is written as `<reply>…</reply>`, and the model goes on behind it. A text that ends in anything else is the end, whatever else is in it.
#
# - Whatever goes wrong with a call (a name that is not there, a form that cannot be read, a tool that raises) comes back as a reply that begins with `error: ` and says what it was. The model reads it and goes on.
# - At most `n` calls are answered. If the model calls once more, its text is the last one, and no tool runs.
# - No call is run but the one that the model has just written. Others may stand in the question, or in what a tool says.
# - `go_on`: a function, text to text. `tools`: functions by name, text to text. `question`: a text. `n`: a whole number, 0 or more.
# - returns a list of texts, in order: what the model wrote, the reply, what the model wrote then, and so on. Joined, they are $y$. The question is not among them.
#
# `minillm.acting.transcript.use` is this loop on tokens, for many questions at once.
#
# An example. The model writes `It is <call>clock()</call>`, the tool `clock` says `ten`, and the model goes on with ` ten now.` The list is `["It is <call>clock()</call>", "<reply>ten</reply>", " ten now."]`.

# %% tags=["exercise"]
# exercise: answer-the-call
def answer(go_on, tools, question, n):
    """go_on: text -> text; tools: functions by name; question: a text; n: at most so many calls.

    Returns the list of texts that were written, the model's and the tools' in turn.
    """
    ### BEGIN SOLUTION
    parts = []
    while True:
        parts.append(go_on("".join([question, *parts])))
        if not parts[-1].endswith("</call>") or len(parts) > 2 * n:
            return parts
        call = parts[-1].rpartition("<call>")[2].removesuffix("</call>")
        name, _, argument = call.partition("(")
        try:
            reply = tools[name](argument.removesuffix(")"))
        except Exception as error:
            reply = f"error: {error}"
        parts.append(f"<reply>{reply}</reply>")
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("answer-the-call", answer)

# %% [markdown]
# ## 3. Which calls are kept
#
# `keep-the-call` · difficulty ★★☆ · 15 minutes
#
# Nobody marked in a text where a call would help. Toolformer (Schick et al. 2023) finds out: put a call in front of some token, and look whether the next tokens become easier. A text with T tokens is scored three times: as it is (0), with the call in front of token `place` but without its reply (1), and with the call and its reply (2). The log-probabilities are of the text's own tokens each time.
#
# The loss is about the tokens behind the call, and the nearest count most: $L = -\sum_t w_t \log p$, where $t = 0$ is token `place` itself, the first behind the call. $w_t$ is $\max(0,\, 1 - 0.2t)$ divided by the sum of these numbers over all $t$, which is 3. It is 3 also where the text ends sooner.
#
# $L^+$ is the loss with call and reply. $L^-$ is the smaller of the two others: the better way to do without the reply. A call is kept if $L^- - L^+ \ge \tau$.
#
# - `logp` (N, 3, T): of N candidates, the three rows of log-probabilities, in the order of above.
# - `place` (N,), whole numbers. `tau` ().
# - returns (N,): $L^- - L^+$ of each call that is kept, 0 of each other.
#
# An example with T = 3 and `place` 1. The three rows are −1, −2, −4, then −1, −2, −3, then −1, −0.5, −1. The losses are 5.2/3, 4.4/3 and 1.3/3, and the call helps by 3.1/3 = 1.03. With `tau` 0.5 it is kept; with `tau` 1.5 the result is 0.

# %% tags=["exercise"]
# exercise: keep-the-call
def gain_of_kept(logp, place, tau):
    """logp (N, 3, T), place (N,), tau () -> (N,): what a call that is kept gains, 0 for others."""
    ### BEGIN SOLUTION
    t = torch.arange(logp.shape[2]) - place[:, None]                # (N, T)
    w = (1 - 0.2 * t).clamp(min=0).where(t >= 0, 0.0) / 3
    L = -(w[:, None] * logp).sum(2)                                 # (N, 3)
    gain = torch.minimum(L[:, 0], L[:, 1]) - L[:, 2]
    return gain.where(gain >= tau, 0.0)
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("keep-the-call", gain_of_kept)

# %% [markdown]
# ## 4. Luck in the filter
#
# `luck-in-the-filter` · difficulty ★★☆ · 20 minutes
#
# Where nobody writes runs to learn from, a model writes them itself: n runs for each of Q questions, and all runs that end right are kept, each as one example. Nobody looks at the steps. A run may end right on true steps, or by luck: on a step that is wrong, and an answer that is right all the same. What do the kept runs look like, on average over many such draws?
#
# - `true` (Q,): the chance that a run for this question ends right on true steps.
# - `lucky` (Q,): the chance that it ends right by luck. `true + lucky` is at most 1, and may be 0.
# - `n` (): how many runs are drawn for each question.
# - returns (3, Q):
#   - row 0: the question's share of all runs that are kept (the expected number of its kept runs, divided by the expected number of all);
#   - row 1: of this question's kept runs, the part that is luck;
#   - row 2: a weight for each kept run of this question. The weights of its kept runs are to sum to 1/Q on average, so that each question counts as much as it did when it was asked. A question of which nothing is ever kept is lost, and its 1/Q goes to nobody.
# - All three are 0 for a question of which nothing is ever kept.
#
# An example. Two questions, `true = [0.6, 0.1]`, `lucky = [0, 0.1]`, `n` 10. On average 6 runs of the first are kept, and 2 of the second. Row 0 is 0.75 and 0.25, row 1 is 0 and 0.5, row 2 is 1/12 and 1/4. An eighth of all that is kept is luck. With the weights it is a quarter: they bring the hard question back, and its luck with it.

# %% tags=["exercise"]
# exercise: luck-in-the-filter
def what_is_kept(true, lucky, n):
    """true, lucky (Q,), n () -> (3, Q): shares of what is kept, the luck in it, weights."""
    ### BEGIN SOLUTION
    right = true + lucky
    safe = right.where(right > 0, 1.0)                              # 0/1 in the place of 0/0
    weight = (right > 0) / (len(true) * n * safe)
    return torch.stack([right / right.sum(), lucky / safe, weight])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("luck-in-the-filter", what_is_kept)

# %% [markdown]
# ## 5. A test that finds what leaked
#
# `find-the-reply` · difficulty ★★★ · 40 minutes
#
# A transcript has two writers or more, and a batch for the policy gradient has to know who wrote what. Most that goes wrong here raises no error: the model only learns something else, or less. Somebody hands you a function
#
# ```python
# make_batch(transcripts, kl, rewards, ended, beta)    # -> tokens, seen, mask, F
# ```
#
# It takes B transcripts. Each is a list of parts `(who, ids)`, such as `[("person", [30]), ("model", [5, 40, 6]), ("tool", [7, 50, 8]), ("model", [41, 0])]`. `who` is `"person"`, `"model"` or `"tool"`; a person comes first, and may speak again later. Ids are whole numbers from 1 to 99. A call is written between 5 and 6, a reply between 7 and 8. The model may write 7 and 8 in a part of its own, too: then it made the reply up. `kl` is a list for each transcript, with a number for each of its tokens, whoever wrote it. `rewards` (B,), and `ended` (B,), bool: if True, the transcript's last token is the model's end token 0; if False, the answer was cut, and has none. `beta` is a number, 0 or more. It claims this:
#
# - All four results are (B, T), and T is the length of the longest row. Rows begin at the left.
# - `tokens` are the ids of all parts in order, then 0 as padding. They are the very ids that were given. The tokenizer joins 10 and 11 to 20 when it encodes a text; a model may still write 10 and then 11, and these two are in `tokens` then.
# - `seen` says what the model may look at: True on every token of the row, whoever wrote it, the end token too, and False in the padding.
# - `mask` is True on every token that the model wrote: in its calls, in a reply that it made up, at marks and at the end token. It is False on all others.
# - $F$ of a token is R less `beta` times a sum: that of `kl` over the model's own tokens in this row, from this token on, itself included. Where `mask` is False, $F$ is 0.
# - A row that was cut teaches nothing: its `mask` is False and its $F$ 0 everywhere. Its `tokens` and `seen` are as in other rows.
#
# Write `is_right(make_batch)`: call it on transcripts that you make up, and return True or False. The check hands your test twenty-five functions, one at a time: six are right, written in different ways, so that numbers agree but for rounding; nineteen have a bug each.

# %% tags=["exercise"]
# exercise: find-the-reply
def is_right(make_batch):
    """make_batch: (transcripts, kl, rewards, ended, beta) -> tokens, seen, mask, F (B, T).

    True if it is as claimed.
    """
    ### BEGIN SOLUTION
    transcripts = [
        [("person", [30]), ("model", [10, 11, 5, 40, 6]), ("tool", [7, 50, 8]), ("model", [41, 0])],
        [("person", [31, 32]), ("model", [7, 51, 8]), ("person", [33]), ("model", [42, 0])],
        [("person", [34]), ("model", [43, 5, 44])]]
    by = torch.tensor([[0] + 5 * [1] + 3 * [2] + 2 * [1], [0, 0, 1, 1, 1, 0, 1, 1, 9, 9, 9],
                       [0, 1, 1, 1] + 7 * [9]])                     # 0 a person, 1 the model, 2 a tool
    kl = torch.arange(33).view(3, 11) % 7 + 1.0
    given = [row[who < 9].tolist() for row, who in zip(kl, by)]
    rewards, ended, beta = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False]), 0.5
    ids = [[token for _, part in parts for token in part] for parts in transcripts]
    tokens = torch.tensor([row + [0] * (11 - len(row)) for row in ids])
    mask = (by == 1) & ended[:, None]
    to_go = (kl * (by == 1)).flip(1).cumsum(1).flip(1)
    F = (rewards[:, None] - beta * to_go) * mask
    found = make_batch(transcripts, given, rewards, ended, beta)
    same = all(torch.equal(a, b) for a, b in zip(found, (tokens, by < 9, mask)))
    return same and torch.allclose(found[3], F, atol=1e-4)
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("find-the-reply", is_right)

# %%
# NBVAL_CHECK_OUTPUT
status()
