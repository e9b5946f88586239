"""bm25-by-hand: what each document is worth to a query, and ways to get it wrong.

The formula is the one that bm25s has by default (Lucene's): a test compares them.
"""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M

K1, B = 1.5, 0.75


def draw_words(rng, k, kind="plain"):
    """documents (N, T), numbers of words with −1 behind the last, and query (M,), numbers of words.

    kind "plain": documents of unequal lengths; one query word is in some of them, several times in one.
    "longer": two documents that hold the word once, and the longer comes first. "more": two of one length,
    with the word once and twice. "rare": each of two documents of one length holds one of the two query
    words, and the second's is in no other. "common": the word is in every document. "empty": a document
    without words. "repeat": the query says a word twice. "unknown": it says one that no document holds.
    "elsewhere": no query word is in the last document.
    """
    a, b, *rest = rng.permutation(30)[:18].tolist()
    other = iter(rest)

    def some(n):
        return [next(other) for _ in range(n)]

    query = [a]
    if kind == "longer":
        documents = [[a, *some(3 + k)], [*some(1), a], some(3)]
    elif kind == "more":
        documents = [[a, *some(2 + k)], [a, a, *some(1 + k)], some(2)]
    elif kind == "rare":
        documents = [[a, *some(1 + k)], [b, *some(1 + k)], [a, *some(2)], some(1)]
        query = [a, b]
    elif kind == "common":
        documents = [[a, *some(n)] for n in (1, 3 + k, 0)]
    else:
        documents = [[a, *some(1 + k % 2), a], [*some(3 + k % 3), b], [b, *some(1), a, b], some(2), some(1)]
        documents = [rng.permutation(d).tolist() for d in documents[:3 + k // 2]]
        query = [a, b] if k else [a]
    if kind == "empty":
        documents.insert(k % 3, [])
    if kind == "repeat":
        query = [[a, a], [b, a, b]][k % 2]
    if kind == "unknown":
        query = [30 + k, a] if k % 2 else [a, 30 + k]
    if kind == "elsewhere":
        documents.append(some(2))
    T = max(map(len, documents)) + (kind == "longer") * k % 2
    rows = [[*d, *[-1] * (T - len(d))] for d in documents]
    return {"documents": np.array(rows, np.int64), "query": np.array(query, np.int64)}


def counts(i, query=None):
    """How often each document holds each word of the query: (N, M)."""
    query = i.query if query is None else query
    return (i.documents[:, :, None] == query).sum(1).astype(float)


def lengths(i):
    """How many words each document has: (N,)."""
    return (i.documents >= 0).sum(1).astype(float)


def saturated(tf, length, mean, k1=K1, b=B):
    """What tf times a word is worth in a document of a length, (N, M)."""
    return tf / (tf + k1 * (1 - b + b * length / mean)[:, None])


def lucene(N, n):
    """The weight of a word that n of N documents hold: (M,)."""
    return np.log(1 + (N - n + 0.5) / (n + 0.5))


def scores(i, worth=saturated, idf=lucene, query=None, length=None, mean=None, n=None):
    """The sum over the query's words of weight times worth, (N,), and ways to get it wrong."""
    query = i.query if query is None else query
    tf = counts(i, query)
    length = lengths(i) if length is None else length
    mean = length.mean() if mean is None else mean
    n = (tf > 0).sum(0) if n is None else n
    return (worth(tf, length, mean) * idf(len(tf), n)).sum(1)


def different(row):
    """How many different words a document has."""
    return len(set(row[row >= 0].tolist()))


def each_once(i):
    """The query's words, each once."""
    return np.array(list(dict.fromkeys(i.query.tolist())))


def by_one_over(N, n):
    """ln(N/n), and 0 where no document holds the word."""
    return np.where(n > 0, np.log(N / np.maximum(n, 1)), 0.0)


BM25_BY_HAND = Check(
    name="bm25-by-hand", title="BM25 by hand", minutes=20, difficulty=2,
    function="bm25", arguments=("documents", "query"), compared="the scores",
    learned="You have the search of this chapter. It compares words and knows nothing of meaning: that is "
            "why it brings back the wrong record, too.",
    task="for each document the sum over the words of the query, repeated ones too, of idf times "
         "tf / (tf + k1·(1 − b + b·L/mean L)).",
    hints=(
        "Three things first: (documents >= 0).sum(1) is L, the words of each document. "
        "(documents[:, :, None] == query).sum(1) is tf, (N, M): how often each document holds each word of "
        "the query. Its column says how many documents hold the word: n.",
        "idf has a number for each word of the query, (M,), and the part with L one for each document, (N,): "
        "[:, None] makes it (N, 1), so that both fit tf.",
        "The mean of L is over all documents, those without words among them. The sum at the end is over the "
        "words of the query: axis 1."),
    expected=scores,
    cases=(
        Case("a document's score is the sum over the words of the query, each as rare as it is in all "
             "documents and as frequent as in this one.", draw_words),
        Case("a document that holds no word of the query has 0.",
             lambda rng, k: draw_words(rng, k, "elsewhere"), lambda i, o: abs(o.result[-1]) < 1e-6, draws=4),
        Case("of two documents that hold the word equally often, the shorter one is worth more.",
             lambda rng, k: draw_words(rng, k, "longer"), lambda i, o: o.result[0] < o.result[1] - 1e-3,
             draws=4),
        Case("of two that are equally long, the one that holds the word twice is worth more, and less than "
             "twice as much.", lambda rng, k: draw_words(rng, k, "more"),
             lambda i, o: o.result[0] + 1e-3 < o.result[1] < 2 * o.result[0] - 1e-3, draws=4),
        Case("a rare word is worth more than one that many documents hold.",
             lambda rng, k: draw_words(rng, k, "rare"), lambda i, o: o.result[0] < o.result[1] - 1e-3,
             draws=4),
        Case("a word that every document holds is worth little, and never less than 0.",
             lambda rng, k: draw_words(rng, k, "common"), lambda i, o: bool((o.result > 1e-3).all()),
             draws=4),
        Case("a document without words is a document: it has 0, and it counts in N and in the mean of L.",
             lambda rng, k: draw_words(rng, k, "empty"), draws=4),
        Case("a word that the query says twice counts twice.", lambda rng, k: draw_words(rng, k, "repeat"),
             draws=4),
        Case("a word that no document holds adds nothing.", lambda rng, k: draw_words(rng, k, "unknown"),
             draws=4, nan="A word that no document holds has n = 0. With the idf of the task this gives no "
                          "infinity.")),
    misconceptions=(
        M("how often for how much",
          "Counts go in as they are: ten times the word is worth ten times as much. BM25 levels off, and a "
          "long document pays for its length.",
          lambda i: scores(i, lambda tf, *_: tf)),
        M("there or not",
          "It only matters here whether a word is there, and not how often.",
          lambda i: scores(i, lambda tf, *rest: saturated((tf > 0).astype(float), *rest))),
        M("padding counted as words",
          "L is the width of the table, padding and all. Count what is not −1.",
          lambda i: scores(i, length=np.full(len(i.documents), float(i.documents.shape[1])),
                           mean=lengths(i).mean())),
        M("padding counted as words",
          "The mean of L is the width of the table, padding and all. Count what is not −1.",
          lambda i: scores(i, mean=i.documents.shape[1])),
        M("different words counted",
          "L counts each word of a document once. It is how many words there are, repeated ones too.",
          lambda i: scores(i, length=np.array([different(row) for row in i.documents], float))),
        M("another document's length",
          "A document is measured by the length of its neighbour.",
          lambda i: scores(i, length=np.roll(lengths(i), 1))),
        M("another document's length",
          "All documents are measured by the length of the first.",
          lambda i: scores(i, length=np.full(len(i.documents), lengths(i)[0]), mean=lengths(i).mean())),
        M("length upside down",
          "The mean is divided by L. So a long document is worth more, where it should be worth less.",
          lambda i: scores(i, lambda tf, length, mean: saturated(tf, mean, np.maximum(length, 1e-9)))),
        M("no length at all",
          "The length of a document plays no part. Is what b does missing? Or is L the width of the table, "
          "the same for all?",
          lambda i: scores(i, lambda *x: saturated(*x, b=0.0))),
        M("k1 and b exchanged",
          "k1 and b are exchanged.",
          lambda i: scores(i, lambda *x: saturated(*x, k1=B, b=K1))),
        M("the mean without the empty ones",
          "The mean of L is over documents that have words. Those without are documents too.",
          lambda i: scores(i, mean=lengths(i)[lengths(i) > 0].mean())),
        M("the sum for the mean",
          "L is compared with the words of all documents together, and not with their mean.",
          lambda i: scores(i, mean=lengths(i).sum())),
        M("occurrences for documents",
          "n counts how often a word occurs. It is the number of documents that hold it.",
          lambda i: scores(i, n=counts(i).sum(0))),
        M("rare in the query",
          "n counts the query. How rare a word is, is asked of the documents.",
          lambda i: scores(i, n=(i.query[:, None] == i.query).sum(0))),
        M("another logarithm",
          "The logarithm is to the base 2. ln is meant: torch.log.",
          lambda i: scores(i, idf=lambda N, n: lucene(N, n) / np.log(2))),
        M("another logarithm",
          "The logarithm is to the base 10. ln is meant: torch.log.",
          lambda i: scores(i, idf=lambda N, n: lucene(N, n) / np.log(10))),
        M("the 1 in the logarithm left out",
          "The 1 + in the logarithm is missing. Then a word that more than half of the documents hold is "
          "worth less than nothing.",
          lambda i: scores(i, idf=lambda N, n: np.log((N - n + 0.5) / (n + 0.5)))),
        M("ln of N/n",
          "idf is ln(N/n) here, which is another method's. A word that all documents hold is worth nothing "
          "then.",
          lambda i: scores(i, idf=by_one_over)),
        M("the frequent for the rare",
          "A word is worth more here if many documents hold it. n and N − n have changed places.",
          lambda i: scores(i, idf=lambda N, n: lucene(N, N - n))),
        M("all words worth the same",
          "idf is missing: a word that all documents hold is worth as much as a rare one.",
          lambda i: scores(i, idf=lambda N, n: np.ones(len(n)))),
        M("a repeated word once",
          "A word that the query says twice was counted once.",
          lambda i: scores(i, query=each_once(i))),
        M("times k1 + 1",
          "All is multiplied by k1 + 1, as some write it. The order is the same, the numbers are not those "
          "of the task.",
          lambda i: scores(i) * (K1 + 1)),
        M("the mean over the query",
          "The sum was divided by how many words the query has.",
          lambda i: scores(i) / len(i.query))))
