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
# # Exercises 16. Search
#
# Five exercises to chapter 16, about an hour and a half. The first four ask for one short function each; in the last you write a test that finds holes. `check("NAME", function)` says what is wrong and on which small input it shows. `hint("NAME")` opens one hint at a time. `status()` says where you are.
#
# The words are the chapter's: a step takes two of the numbers left and puts one in their place; a state is the numbers left; a state is alive if 24 can still be made, and dead if not. Shapes: N numbers or chains, C children of a level, K steps of a chain or budgets, T tokens.

# %%
from fractions import Fraction
from itertools import combinations, permutations

import torch

from grader import check, hint, status

# %% [markdown]
# ## 1. Dead or alive
#
# `dead-or-alive` · difficulty ★☆☆ · 10 minutes
#
# A chain for the game of 24 may be lost after its first step, and nobody sees it: the numbers left are dead, and every way to go on ends somewhere else. Write the judge that knows.
#
# A step takes two of the numbers left and puts one in their place: their sum, their difference, their product or their quotient. Steps go on until one number is left. All numbers must be used, and the last must be 24, exactly. Fractions may be made on the way. Nothing is divided by 0.
#
# - `numbers` (N,), whole numbers, 0 or more: one to four of them. `numbers.tolist()` makes a list.
# - returns True where some way leads to 24, and False where none does.
#
# A function inside yours that calls itself is a short way to write it: of the numbers left, which states can come next? `minillm.worlds.countdown.alive` is such a judge, and `solve` lists the ways. Write it without.
#
# An example. 4, 4 and 8 are alive: 4 · 4 = 16, and 16 + 8 = 24. 4, 6 and 6 are dead.

# %% tags=["exercise"]
# exercise: dead-or-alive
def can_make_24(numbers):
    """numbers (N,) whole numbers -> True if all of them, each once, can make 24, else False."""
    ### BEGIN SOLUTION
    def alive(left):
        if len(left) == 1:
            return left[0] == 24
        for i, j in permutations(range(len(left)), 2):              # both ways round
            a, b = left[i], left[j]
            others = [n for k, n in enumerate(left) if k not in (i, j)]
            results = [a + b, a - b, a * b] + ([a / b] if b else [])
            if any(alive([*others, result]) for result in results):
                return True
        return False

    return alive([Fraction(n) for n in numbers.tolist()])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("dead-or-alive", can_make_24)

# %% [markdown]
# ## 2. One level of a search
#
# `one-level` · difficulty ★★☆ · 15 minutes
#
# A search goes level by level. Each state that was kept is asked for next steps: it is a parent, and where its steps lead are its children. All children of all parents are the next level. Each has a value, and of the level the best are kept; the others are given up for good. How many are kept is the width of the beam.
#
# A solution is never given up, whatever its value says, and it takes no place in the beam: beside the solutions, the `beam` best of all other children are kept, or all of them if there are fewer. Of equals, the one that was proposed first is kept.
#
# - `parents` (C,), whole numbers: the parent of each child. Children come in the order in which they were proposed.
# - `values` (C,): what each child is worth. More is better, and a value may be below 0, as $\log p$ is.
# - `solved` (C,), bool: True where the child is a solution.
# - `beam` (), a whole number, 1 or more.
# - returns (C,), bool: True where the child is kept.
#
# `minillm.thinking.tree.breadth_first` does this for whole trees. Write the level without.
#
# An example. With `values = [-3, -1, -2, -9]`, the last one solved, and `beam` 1, the second and the fourth are kept.

# %% tags=["exercise"]
# exercise: one-level
def one_level(parents, values, solved, beam):
    """parents, values (C,), solved (C,) bool, beam () -> (C,) bool: which children are kept."""
    ### BEGIN SOLUTION
    order = values.argsort(descending=True, stable=True)            # of equals the first comes first
    order = order[~solved[order]]
    kept = solved.clone()
    kept[order[:beam]] = True
    return kept
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("one-level", one_level)

# %% [markdown]
# ## 3. At equal tokens
#
# `equal-tokens` · difficulty ★★☆ · 15 minutes
#
# A tree writes more than a chain. To compare them fairly, give both the same number of tokens. So: what do chains find within a budget?
#
# N chains to one question were written, and it is known which are right. Somebody takes them one after the other, in an order that is drawn at random, all orders equally likely. Each costs its tokens. The first that is longer than what is left is cut, and that is the end: nobody knows beforehand how long a chain will be, so it cannot be passed over. A chain that takes exactly what is left is written to its end. How likely is it that one that was written to its end is right?
#
# With six chains or fewer one need not draw: there are 720 orders at most.
#
# - `tokens` (N,), whole numbers: the length of each chain. N is at most 6.
# - `right` (N,), bool: True where a chain's answer is right.
# - `budgets` (K,), whole numbers: how many tokens there are.
# - returns (K,): for each budget the share of the orders in which a right chain is written to its end.
#
# An example. `tokens = [3, 2, 4]`, the second chain is right, and there are 5 tokens. The order 3, 2, 4 is good: the 5 tokens are enough for the first two. So are the orders that begin with the right one. After 4 nothing else fits, and 3, 4, 2 is over when the second chain is cut. The chance is 0.5.

# %% tags=["exercise"]
# exercise: equal-tokens
def chance_within(tokens, right, budgets):
    """tokens (N,), right (N,) bool, budgets (K,) -> (K,): the chance of a right chain within each."""
    ### BEGIN SOLUTION
    orders = torch.tensor(list(permutations(range(len(tokens)))))   # (N!, N)
    spent = tokens[orders].cumsum(1)
    ended = spent <= budgets[:, None, None]                         # (K, N!, N)
    return (ended & right[orders]).any(2).float().mean(1)
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("equal-tokens", chance_within)

# %% [markdown]
# ## 4. A reward for each step
#
# `reward-for-a-step` · difficulty ★★☆ · 20 minutes
#
# An outcome's reward says that a chain was right. It does not say which step made it so. People can label steps, one by one (Lightman et al. 2023). Or nobody need (Wang et al. 2024): cut the chain after a step, let the model go on from there n times, and count how often it ends right. That share is V of the prefix: how good a place this is to be in.
#
# A step has done something if V changes by it. So its $F$ is what it added to V: V of the prefix with the step, less V of the prefix without it. Each token of the step has this number. When the chain is whole, nothing is left to try: V is then the outcome R.
#
# Compare it with the outcome's $F$: R less V of the question alone, the same number on every token of the chain.
#
# - `counts` (K,), whole numbers: how many of `n` () continuations ended right, from the question alone, then after 1, 2, …, K − 1 steps. The chain has K steps.
# - `reward` (): R of the chain itself, 1 or 0.
# - `step` (T,), whole numbers: the step to which each token belongs, from 1 to K, and 0 on the tokens of the question. Steps have different lengths.
# - returns (2, T): in row 0 the outcome's $F$, in row 1 the steps'. Both are 0 on the question, which the model did not write.
#
# An example. The chain has two steps and is right. Of 10 continuations of the question 6 end right, and of those after its first step 1. Row 0 has 0.4 on the whole chain. Row 1 has −0.5 on the first step and 0.9 on the second: it saved the chain.

# %% tags=["exercise"]
# exercise: reward-for-a-step
def two_rewards(counts, n, reward, step):
    """counts (K,), n (), reward (), step (T,) -> (2, T): F by the outcome, and F by the steps."""
    ### BEGIN SOLUTION
    V = torch.cat([counts / n, reward[None]])                       # (K + 1,)
    added = torch.cat([torch.zeros(1), V[1:] - V[:-1]])             # 0 for the question, then a step each
    return torch.stack([(reward - V[0]) * (step > 0), added[step]])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("reward-for-a-step", two_rewards)

# %% [markdown]
# ## 5. A test that finds the hole
#
# `find-the-hole` · difficulty ★★★ · 30 minutes
#
# In the game of 24 a program can say whether an answer is right. Such a reward is called verifiable. But who verifies the verifier? If it takes one wrong text, a model that learns from it will sooner or later write this text, and be paid. Somebody hands you a function
#
# ```python
# verifier(numbers, text)    # -> True or False
# ```
#
# and claims that it says whether the text makes 24 of the numbers. `numbers` is a list of four whole numbers from 1 to 13, and `text` a string of 60 characters at most. It claims this:
#
# - Each of the four numbers is used exactly once, in any order, and no other number is. `[3, 3, 8, 8]` holds two threes, and both are used.
# - The text holds numbers, `+`, `-`, `*`, `/` and brackets, and nothing else: no space, no `=`, no sign before a number or a bracket, no 0 before a number. Brackets may stand where they change nothing. Any other text is False, and so is a text that is no whole expression.
# - Brackets come first, then `*` and `/`, then `+` and `-`, and from left to right where two bind equally. What is made on the way may be a fraction or below 0. Nothing is divided by 0: such a text is False.
# - The value is 24, exactly.
# - To every text it answers True or False, and raises nothing.
#
# Write `is_right(verifier)`: call it on numbers and texts whose truth you know, and return True or False. If a call raises, the verifier is wrong: catch it, and return False. The check hands your test twenty-four functions, one at a time: six are right, written in different ways; eighteen have a bug each.

# %% tags=["exercise"]
# exercise: find-the-hole
def is_right(verifier):
    """verifier: (numbers, text) -> True or False. True if it is as claimed."""
    ### BEGIN SOLUTION
    right = [([4, 6, 1, 1], "4*6*1*1"), ([8, 3, 8, 3], "8/(3-8/3)"), ([2, 10, 2, 2], "2*10+2*2"),
             ([13, 13, 1, 3], "1-3+13+13"), ([12, 2, 2, 2], "((12))*2*2/2"), ([12, 12, 2, 2], "12/2*2+12")]
    wrong = [([4, 6, 1, 2], "4*6*1+2-2"), ([4, 6, 1, 2], "4*6*1"),
             ([4, 6, 1, 1], "4*6*1*1+5-5"), ([1, 2, 2, 1], "12*2*1"),
             ([5, 5, 6, 5], "5*5-5/6"), ([7, 7, 2, 1], "7*7/2*1"), ([2, 8, 4, 1], "(2-8)*4*1"),
             ([1, 1, 1, 1], "24"), ([4, 6, 1, 2], "4+6+1+2=24"), ([2, 8, 4, 1], "-(2-8)*4*1"),
             ([2, 3, 3, 1], "2**3*3*1"), ([4, 6, 1, 1], "4*6 *1*1"), ([1, 1, 5, 5], "(1+1)/(5-5)"),
             ([4, 6, 1, 1], ""), ([4, 6, 1, 1], "4*6*1*(1")]
    for cases, truth in ((right, True), (wrong, False)):
        for numbers, text in cases:
            try:
                if verifier(numbers, text) != truth:
                    return False
            except Exception:
                return False
    return True
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("find-the-hole", is_right)

# %%
# NBVAL_CHECK_OUTPUT
status()
