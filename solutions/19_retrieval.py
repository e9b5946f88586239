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
# # Exercises 19. Retrieval
#
# Four exercises to chapter 19, about 80 minutes. The first three ask for one short function each; in the last you write a test that finds outdated facts. `check("NAME", function)` says what is wrong and on which small input it shows. `hint("NAME")` opens one hint at a time. `status()` says where you are.
#
# Shapes: N documents, T words, M words of a query, Q questions, K thresholds, A answers, S statements.

# %%
import torch

from grader import check, hint, status

# %% [markdown]
# ## 1. BM25 by hand
#
# `bm25-by-hand` · difficulty ★★☆ · 20 minutes
#
# A search gives each document a score, and brings back those with the highest. BM25 adds up, over the words of the query,
#
# $$\mathrm{idf} \cdot \frac{\mathrm{tf}}{\mathrm{tf} + k_1\,(1 - b + b\,L / \bar L)}, \qquad \mathrm{idf} = \ln\Bigl(1 + \frac{N - n + 0.5}{n + 0.5}\Bigr).$$
#
# tf is how often the document holds the word, and $L$ how many words it has. $\bar L$ is the mean of $L$ over all documents, $N$ is how many documents there are, and $n$ is how many of them hold the word. $k_1 = 1.5$ and $b = 0.75$. Words are whole numbers here.
#
# - `documents` (N, T), whole numbers: the words of each document, from 0 up, and −1 behind the last word. A document may have no words at all; it counts in $N$ and in $\bar L$ all the same.
# - `query` (M,), whole numbers: its words. A word that it says twice is added twice.
# - returns (N,): the score of each document.
#
# An example. Three documents of the same length hold `[4, 4]`, `[4, 7]` and `[8, 9]`, and the query is `[4]`. idf is ln 1.6, or 0.47. The scores are 0.47 · 2/3.5, 0.47 · 1/2.5 and 0.

# %% tags=["exercise"]
# exercise: bm25-by-hand
def bm25(documents, query):
    """documents (N, T) with −1 as padding, query (M,) -> (N,): the score of each document."""
    ### BEGIN SOLUTION
    k1, b = 1.5, 0.75
    tf = (documents[:, :, None] == query).sum(1)                    # (N, M)
    length = (documents >= 0).sum(1).float()                        # (N,)
    N, n = len(documents), (tf > 0).sum(0)                          # n (M,)
    idf = torch.log(1 + (N - n + 0.5) / (n + 0.5))                  # (M,)
    slow = k1 * (1 - b + b * length / length.mean())                # (N,)
    return (idf * tf / (tf + slow[:, None])).sum(1)
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("bm25-by-hand", bm25)

# %% [markdown]
# ## 2. When to look
#
# `when-to-look` · difficulty ★★☆ · 15 minutes
#
# Before it answers, a model says how likely it is that it should look something up: p. Somebody sets a threshold, and the question is looked up if p is at least that. Each question was answered both ways, so it is known what would have been right. A look costs a price, in units of right answers: at a price of 0.25, four looks cost as much as one right answer is worth.
#
# - `p` (Q,): p of looking, for each question.
# - `alone` (Q,), bool: True where the answer without looking is right.
# - `looked` (Q,), bool: True where the answer after looking is right.
# - `price` (): of one look.
# - `thresholds` (K,): all different, in any order.
# - returns (4, K), for each threshold: the share of all questions that is answered rightly; the share that is looked up; the worth, which is the first less the price times the second; and 1 at the threshold that is worth the most, 0 elsewhere. If several are worth the most, the 1 is at the highest of them: it looks least.
#
# An example. With `p = [0.5, 0.25]`, `alone = [True, False]`, `looked = [True, True]`, a price of 0.25 and the thresholds 0.5 and 0.25, the columns are (0.5, 0.5, 0.375, 0) and (1, 1, 0.75, 1).

# %% tags=["exercise"]
# exercise: when-to-look
def when_to_look(p, alone, looked, price, thresholds):
    """p, alone, looked (Q,), price (), thresholds (K,) -> (4, K): right, looked up, worth, the best."""
    ### BEGIN SOLUTION
    looks = p[:, None] >= thresholds                                # (Q, K)
    right = torch.where(looks, looked[:, None], alone[:, None]).float().mean(0)
    share = looks.float().mean(0)
    worth = right - price * share
    best = thresholds.masked_fill(worth < worth.max(), -1).argmax()
    return torch.stack([right, share, worth, (torch.arange(len(worth)) == best).float()])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("when-to-look", when_to_look)

# %% [markdown]
# ## 3. Strict and relaxed
#
# `strict-and-relaxed` · difficulty ★★☆ · 15 minutes
#
# "In 2015 the mayor was Ada Moss; she still lives on Elm Street." The first statement answers the question. The second is an extra, and may be outdated. Is the answer right? Vu et al. (2023) give two scores. By the **strict** one, everything that an answer says must be true in the year asked. By the **relaxed** one, its main statements must be, and extras are forgiven. An answer without a main statement does not answer, and is wrong by both.
#
# - `since`, `until` (A, S), years: a statement is true from the year `since` on, and no longer in the year `until`, in which something else became true. `until` is 9999 for what is true to this day. Both are 0 for what was never true.
# - `main` (A, S), bool: True for a main statement. An answer may have several, and then all of them count.
# - `said` (A, S), bool: True for each statement, main or extra. Answers have unequal numbers of statements, and the rest of a row is padding: False, with 0 in `since` and `until`.
# - `asked` (A,): the year that each answer's question asks for.
# - returns (2, A), bool: in row 0 the strict score of each answer, in row 1 the relaxed one.
#
# An example. An answer to a question for 2015 has a main statement that is true from 2012 on, until 2018, and an extra that is true until 2014. It is right by the relaxed score, and wrong by the strict one.

# %% tags=["exercise"]
# exercise: strict-and-relaxed
def two_scores(since, until, main, said, asked):
    """since, until, main, said (A, S), asked (A,) -> (2, A) bool: strict, and relaxed."""
    ### BEGIN SOLUTION
    year = asked[:, None]
    true = (since <= year) & (year < until)
    answers = main.any(1)
    strict = answers & (true | ~said).all(1)
    relaxed = answers & (true | ~main).all(1)
    return torch.stack([strict, relaxed])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("strict-and-relaxed", two_scores)

# %% [markdown]
# ## 4. A test that finds the stale
#
# `find-the-stale` · difficulty ★★★ · 30 minutes
#
# A search brings back records of several years, and one of them holds. Taking a wrong one gives an answer that was right once, or will be: nothing in it looks wrong. Somebody hands you a function
#
# ```python
# lookup(records, person, relation, year)    # -> a value, or None
# ```
#
# `records` is a list of at most 50 records `(person, relation, year, value)`, such as `("Ada Moss", "street", 2018, "Elm Street")`. Years are whole numbers from 1 to 9999, all else are texts. It claims this:
#
# - The value is that of the newest record of this person and this relation whose year is the one asked or an earlier one. So a record holds from its own year on, until the next one, and the last goes on.
# - Records come in any order. If two of one year say different things, the one that comes later in the list is a correction, and holds.
# - Persons and relations are compared as they are: whole, and letter by letter.
# - If no record is early enough, or none is there, the value is None. Nothing is raised.
# - The list is left as it was, and no call depends on an earlier one.
#
# Write `is_right(lookup)`: call it on lists whose truth you know, and return True or False. If a call raises, the function is wrong: catch it, and return False. The check hands your test twenty-six functions, one at a time: six are right, written in different ways; twenty have a bug each.

# %% tags=["exercise"]
# exercise: find-the-stale
def is_right(lookup):
    """lookup: (records, person, relation, year) -> a value or None. True if it is as claimed."""
    ### BEGIN SOLUTION
    ada, pet, job = "Ada Moss", "pet", "job"
    changes = [(ada, pet, 1990, "cat"), (ada, pet, 2000, "dog"), (ada, pet, 2020, "cat")]
    mixed = [(ada, pet, 2020, "owl"), (ada, pet, 987, "cat"), (ada, pet, 2000, "dog"),
             (ada, job, 2001, "cook"), ("Tom Moss", pet, 2002, "fox"), ("Ada Mosster", pet, 2003, "hen"),
             (ada, pet, 2000, "bat"), (ada, pet, 2020, "pig")]
    cases = [(changes, year, value) for year, value in (
        (1980, None), (1990, "cat"), (1999, "cat"), (2000, "dog"), (2018, "dog"), (2019, "dog"),
        (2020, "cat"), (2030, "cat"))]
    cases += [(mixed, year, value) for year, value in (
        (500, None), (987, "cat"), (1999, "cat"), (2000, "bat"), (2019, "bat"), (2021, "pig"))]
    cases += [(mixed[::-1], year, value) for year, value in ((1999, "cat"), (2010, "dog"), (2021, "owl"))]
    cases += [([], 2000, None)]
    for records, year, value in cases:
        given = list(records)
        try:
            if lookup(given, ada, pet, year) != value or given != records:
                return False
        except Exception:
            return False
    return True
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("find-the-stale", is_right)

# %%
# NBVAL_CHECK_OUTPUT
status()
