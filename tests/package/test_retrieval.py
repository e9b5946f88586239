"""Retrieve, read, answer: each formula against a second one, masks, reflections, facts that change."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter

import pytest
import torch

from minillm import hub
from minillm.acting import retrieval
from minillm.acting.retrieval import Found, Reading, Weights
from minillm.acting.toolbox import search
from minillm.acting.transcript import batch_transcripts
from minillm.transformer import Config, Transformer
from minillm.worlds import changing
from minillm.worlds.changing import CHANGE, FIRST, NOW, UNKNOWN, VALUES, History
from minillm.worlds.town import Fact, Town

torch.set_num_threads(1)
BASE, TOKENIZER = hub.load("base")
TINY = Transformer(Config(vocab_size=TOKENIZER.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1,
                          d_ff=16, context=256), seed=3)
MOVED = History("Ada Moss", "street", ((2020, "Oak Street"), (2023, "Elm Street")), "famous")


# --- facts that change ----------------------------------------------------------------------------


def test_a_history_at_each_year():
    assert [MOVED.at(year) for year in (2020, 2022, 2023, 2025)] == [
        ("Oak Street", 2020), ("Oak Street", 2020), ("Elm Street", 2023), ("Elm Street", 2023)]
    assert MOVED.records() == ["Ada Moss, street: Oak Street (2020)", "Ada Moss, street: Elm Street (2023)"]
    with pytest.raises(ValueError, match="first record"):
        MOVED.at(2019)


def test_how_often_facts_change():
    """The mother never; the others with their chance, each year, to another value."""
    rng = random.Random(0)
    for relation, chance in CHANGE.items():
        value = "Cleo Hill" if relation == "mother" else VALUES[relation][0]
        fact = Fact("Ada Moss", relation, value, "famous")
        many = [changing.history(fact, rng) for _ in range(2000)]
        changes = sum(len(h.versions) - 1 for h in many)
        years = 2000 * (NOW - FIRST)
        assert abs(changes / years - chance) < 4 * math.sqrt(chance * (1 - chance) / years) + 1e-9
        for h in many[:200]:
            assert h.versions[0] == (FIRST, value)
            assert all(a[0] < b[0] and a[1] != b[1] for a, b in itertools.pairwise(h.versions))


def test_questions_and_their_answers():
    now, then = changing.ask_now(MOVED), changing.ask_of(MOVED, 2022)
    true, false = changing.ask_since(MOVED, "Elm Street"), changing.ask_since(MOVED, "Mill Street")
    assert now.prompt == "Where does Ada Moss live now?"
    assert now.response == "Ada Moss lives on Elm Street (2023)."
    assert (then.prompt, then.response) == ("Where did Ada Moss live in 2022?",
                                            "In 2022 Ada Moss lived on Oak Street (2020).")
    assert true.response == false.response == now.response
    assert (true.false, false.false, now.false) == (False, True, False)
    assert (now.changed, then.changed) == (True, False)
    assert now.memory == "Ada Moss lives on Oak Street (2020)." and then.memory == then.response
    stranger = History("Ida Moss", "street", MOVED.versions, "newcomer")
    assert changing.ask_now(stranger).memory == UNKNOWN


def test_what_a_reader_can_know():
    """The newest record of this person, this relation, and no later year than asked."""
    now, then = changing.ask_now(MOVED), changing.ask_of(MOVED, 2022)
    for order in itertools.permutations([*MOVED.records(), "Ada Frost, street: Mill Street (2025)",
                                         "Ada Moss, pet: cat (2025)", "nonsense"]):
        assert now.read(order) == now.response and then.read(order) == then.response
    assert then.read(MOVED.records()[1:]) is None
    assert now.read(MOVED.records()[:1]) == now.memory
    assert now.read([]) is None and not now.fits("Ada Moss, street: Elm Street")


def test_strict_and_relaxed():
    now = changing.ask_now(MOVED)
    assert changing.marks(now, now.response) == (True, True)
    assert changing.marks(now, "Ada Moss lives on Elm Street (2021).") == (True, False)
    for wrong in ("Ada Moss lives on Oak Street (2023).", UNKNOWN, "", "Ada Moss lives on Elm Street."):
        assert changing.marks(now, wrong) == (False, False)


def test_newcomers_are_in_no_text():
    town = Town(0, people=3)
    facts = changing.newcomers(town, 5, random.Random(1))
    assert len(facts) == 5 * len(CHANGE) and not {f.subject for f in facts} & set(town.fame)
    histories = [changing.history(f, random.Random(2)) for f in facts]
    lines = changing.register(histories, random.Random(3))
    assert Counter(lines) == Counter(line for h in histories for line in h.records())


@pytest.mark.parametrize("call, says", [
    (lambda: changing.history(Fact("Ada", "age", "30", "once"), random.Random(0)), "fact is Ada, age"),
    (lambda: changing.history(Fact("Ada", "pet", "cat", "once"), random.Random(0), {"pet": 2}), "change"),
    (lambda: changing.newcomers(Town(0, people=1), 0, random.Random(0)), "n is 0"),
    (lambda: changing.ask_of(MOVED, 2026), "year is 2026"),
    (lambda: changing.ask_since(MOVED, "cat"), "value is 'cat'"),
    (lambda: changing.ask_of(History("A", "mother", ((2020, "Cleo Hill"),), "once"), 2022), "never"),
])
def test_changing_refuses(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- search ---------------------------------------------------------------------------------------


def bm25(documents, query, k1=1.5, b=0.75):
    """From the formula (Robertson et al. 1994), with Lucene's idf, as bm25s has it."""
    words = [re.findall(r"\w+", d.lower()) for d in documents]
    mean, n = sum(map(len, words)) / len(words), len(words)
    scores = []
    for d in words:
        score = 0.0
        for w in re.findall(r"\w+", query.lower()):
            df, tf = sum(w in other for other in words), d.count(w)
            idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(d) / mean))
        scores.append(score)
    return scores


def test_the_retriever_is_bm25_and_the_search_tool_with_its_scores():
    rng = random.Random(0)
    histories = [changing.history(f, rng) for f in changing.newcomers(Town(0, people=2), 12, rng)]
    documents = changing.register(histories, rng)
    retrieve, tool = retrieval.retriever(documents, 4), search(documents, 4)
    for query in (histories[0].key, "Ada", "street 2023", "nobody knows", ""):
        found, scores = retrieve(query), bm25(documents, query)
        best = sorted(range(len(documents)), key=lambda i: (-round(scores[i], 4), i))[:4]
        assert [f.text for f in found] == [documents[i] for i in best if scores[i] > 0]
        assert [f.score for f in found] == pytest.approx([scores[i] for i in best if scores[i] > 0], rel=1e-4)
        if query:
            assert "\n".join(f.text for f in found) == tool(query).replace("nothing found", "")


# --- what one learns from -------------------------------------------------------------------------


def learned(row):
    """What F = 1 stands on."""
    return TOKENIZER.decode([i for i, mine in zip(row.ids, row.response_mask) if mine], specials=True)


def test_f_stands_on_what_the_curator_wrote():
    row = retrieval.demonstrate(TOKENIZER, "Q?", "A.", useful=True, look=True, query="q", reply="r")
    assert TOKENIZER.decode(row.ids, specials=True) == (
        "look yes.<|call|>search(q)<|/call|><|reply|>r<|/reply|>"
        "relevant yes. A. supported yes. useful yes.<|end|>")
    assert learned(row) == (
        "look yes.<|call|>search(q)<|/call|>relevant yes. A. supported yes. useful yes.<|end|>")
    forced = retrieval.demonstrate(TOKENIZER, "Q?", "A.", useful=False, look=True)
    assert learned(forced) == " A. useful no.<|end|>"          # one should have looked
    judged = retrieval.demonstrate(TOKENIZER, "Q?", "A.", useful=False, look=None, query="q", relevant=False,
                                   supported=False, judged=True)
    assert learned(judged) == "<|call|>search(q)<|/call|>relevant no. supported no. useful no.<|end|>"
    assert "<|reply|>nothing found<|/reply|>" in TOKENIZER.decode(judged.ids, specials=True)
    assert batch_transcripts([row, forced, judged]).response_mask.sum() == sum(
        sum(r.response_mask) for r in (row, forced, judged))


def test_a_demonstration_is_read_as_the_model_reads():
    """The places where a model is asked are those where it was taught: piece by piece the ids are those of
    the whole text."""
    row = retrieval.demonstrate(TOKENIZER, "Q?", "A b.", useful=True, look=True, query="Ada", reply="x y")
    ids = row.prompt + row.ids
    before = retrieval._read_context(TOKENIZER, "Q?", "Ada", "x y")
    for context in (retrieval._looking(TOKENIZER, "Q?"), before):
        assert ids[:len(context)] == context
    assert ids[len(before):-1] == TOKENIZER.encode("relevant yes. A b. supported yes. useful yes.")


# --- reflections ----------------------------------------------------------------------------------


def test_p_yes_from_the_logits():
    contexts = [TOKENIZER.encode(text) for text in ("look", "some other text, relevant")]
    yes, no = (TOKENIZER.encode(word)[0] for word in (" yes", " no"))
    for context, p in zip(contexts, retrieval.p_yes(TINY, TOKENIZER, contexts)):
        with torch.no_grad():
            q = TINY(torch.tensor([context]))[0, -1].softmax(-1)
        assert p == pytest.approx(float(q[yes] / (q[yes] + q[no])), rel=1e-5)
    assert retrieval.p_look(TINY, TOKENIZER, ["Q?"]) == retrieval.p_yes(
        TINY, TOKENIZER, [TOKENIZER.prompt("Q?") + TOKENIZER.encode("look")])


class Scripted:
    """Stands for `sample`: it writes what is given."""

    def __init__(self, *texts):
        self.texts = list(texts)

    def __call__(self, model, contexts, room, end):
        return [[*TOKENIZER.encode(self.texts.pop(0)), TOKENIZER.end] for _ in contexts]


def test_a_reading_is_what_was_written_and_its_numbers(monkeypatch):
    text = "relevant no. Ada Moss has a cat (2021). supported yes. useful no."
    monkeypatch.setattr(retrieval, "_sampled", Scripted(text, " Ada Moss has a dog (2020). useful yes."))
    [r] = retrieval.read(TINY, TOKENIZER, ["Q?"], ["Ada Moss, pet"], ["Ada Moss, pet: cat (2021)"])
    assert (r.answer, r.passage, r.ended) == ("Ada Moss has a cat (2021).", "Ada Moss, pet: cat (2021)", True)
    context = retrieval._read_context(TOKENIZER, "Q?", "Ada Moss, pet", "Ada Moss, pet: cat (2021)")
    places = [context + TOKENIZER.encode(text[:text.index(word) + len(word)])
              for word in ("relevant", "supported", "useful")]
    p = retrieval.p_yes(TINY, TOKENIZER, places)
    assert [r.relevant, r.supported, r.useful] == pytest.approx(p, rel=1e-5)
    before = context + TOKENIZER.encode("relevant no.")
    said = TOKENIZER.encode(" Ada Moss has a cat (2021).")
    with torch.no_grad():
        logp = TINY(torch.tensor([before + said]))[0].log_softmax(-1)
    each = [float(logp[len(before) + i - 1, token]) for i, token in enumerate(said)]
    assert r.logp == pytest.approx(sum(each), rel=1e-4) and r.tokens == len(said)
    assert r.cost == len(context) + len(TOKENIZER.encode(text)) + 1 - len(TOKENIZER.prompt("Q?"))
    [memory] = retrieval.recall(TINY, TOKENIZER, ["Q?"])
    assert (memory.answer, memory.passage, memory.relevant) == ("Ada Moss has a dog (2020).", None, None)


def test_queries_are_read_out_of_calls(monkeypatch):
    calls = ("search(Ada Moss, pet)", "find(x)", "search(")
    monkeypatch.setattr(retrieval, "_sampled",
                        lambda *a: [[*TOKENIZER.encode(text), TOKENIZER.call_end] for text in calls])
    assert retrieval.queries(TINY, TOKENIZER, ["a?", "b?", "c?"]) == ["Ada Moss, pet", "", ""]


# --- one answer out of several --------------------------------------------------------------------


def a_reading(logp, tokens, *p):
    return Reading("a", "z", "q", logp, tokens, *p, cost=1)


def test_self_rags_score_from_its_formula():
    """p of a token, and each reflection by its weight: 0.5 + 1·0.8 + 1·0.6 + 0.5·0.4 by hand."""
    r = a_reading(3 * math.log(0.5), 3, 0.8, 0.6, 0.4)
    assert retrieval.score(r) == pytest.approx(0.5 + 0.8 + 0.6 + 0.2)
    rng = random.Random(0)
    for _ in range(50):
        p, w = [rng.random() for _ in range(3)], [rng.uniform(-1, 2) for _ in range(3)]
        logp, n = -10 * rng.random(), rng.randint(1, 20)
        from_scratch = (math.e ** logp) ** (1 / n) + w[0] * p[0] + w[1] * p[1] + w[2] * p[2]
        assert retrieval.score(a_reading(logp, n, *p), w) == pytest.approx(from_scratch)
    assert retrieval.score(a_reading(0.0, 2, None, None, 0.4)) == pytest.approx(1.2)
    stale, fresh = a_reading(-1.0, 10, 0.9, 0.9, 0.1), a_reading(-1.5, 10, 0.9, 0.9, 0.9)
    assert retrieval.best([stale, fresh]) is fresh
    assert retrieval.best([stale, fresh], Weights(1, 1, 0)) is stale


def test_rags_marginal_by_listing():
    """Σ_z p(z) p(y|z) over a world in which every passage and every answer can be drawn and counted."""
    rng = random.Random(1)
    for _ in range(20):
        z, y = rng.randint(1, 4), rng.randint(1, 5)
        prior = retrieval.prior([rng.uniform(0, 5) for _ in range(z)])
        table = []
        for _ in range(z):
            weights = [rng.random() for _ in range(y + 1)]      # some probability on other answers
            table.append([w / sum(weights) for w in weights[:y]])
        joint = {(i, j): prior[i] * table[i][j] for i in range(z) for j in range(y)}
        listed = [sum(p for (_, b), p in joint.items() if b == j) for j in range(y)]
        assert retrieval.marginal(prior, table) == pytest.approx(listed)
    assert retrieval.marginal([0.5, 0.5], [[0.8, 0.1], [0.2, 0.3]]) == pytest.approx([0.5, 0.2])


def test_the_prior_is_a_softmax():
    assert retrieval.prior([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    assert retrieval.prior([1000.0, 1000.0]) == [0.5, 0.5]


def test_an_answer_after_each_passage_is_the_sum_over_both_words():
    """p(A|x, z) = p(yes, A) + p(no, A), each token by token from the logits."""
    passages, answers = ["Ada Moss, pet: cat (2021)", ""], ["Ada Moss has a cat (2021).", UNKNOWN]
    table = retrieval.after_each(TINY, TOKENIZER, "Q?", "q", passages, answers)
    for i, passage in enumerate(passages):
        for j, said in enumerate(answers):
            p = 0.0
            for word in ("yes", "no"):
                x = retrieval._read_context(TOKENIZER, "Q?", "q", passage)
                y = TOKENIZER.encode(f"relevant {word}. {said}")
                with torch.no_grad():
                    logp = TINY(torch.tensor([x + y]))[0].log_softmax(-1)
                p += math.exp(sum(float(logp[len(x) + k - 1, token]) for k, token in enumerate(y)))
            assert table[i][j] == pytest.approx(p, rel=1e-3)


# --- when to look ---------------------------------------------------------------------------------


def test_the_trade_of_a_threshold_by_walking_through_the_questions():
    rng = random.Random(2)
    n = 40
    chance = [rng.random() for _ in range(n)]
    a, b = [rng.randint(0, 1) for _ in range(n)], [rng.randint(0, 1) for _ in range(n)]
    for threshold in (-1.0, 0.2, 0.5, 0.9, 1.0):
        looks = right = tokens = 0
        for i in range(n):
            if chance[i] > threshold:
                looks, right, tokens = looks + 1, right + b[i], tokens + 70
            else:
                right, tokens = right + a[i], tokens + 20
        assert retrieval.trade(chance, threshold, a, b, [20] * n, [70] * n) == pytest.approx(
            (looks / n, right / n, tokens / n))


def test_looking_where_it_pays_beats_both():
    """With calibrated p and a search that is always right, the best threshold is above always and never at
    equal cost; by listing all four kinds of questions."""
    memory = [1, 1, 0, 0]
    assert retrieval.trade([0.1, 0.2, 0.8, 0.9], 0.5, memory, [1] * 4, [1] * 4, [4] * 4) == (0.5, 1.0, 2.5)
    assert retrieval.trade([0.1, 0.2, 0.8, 0.9], 1.0, memory, [1] * 4, [1] * 4, [4] * 4).right == 0.5


def test_answer_puts_the_steps_together(monkeypatch):
    """Who looks reads every passage apart, or all in one reply; who does not, remembers; costs are summed."""
    made = []

    def reading(q, query, passage):
        made.append((q, query, passage))
        return Reading(f"{q}:{passage}", passage, query, -1.0, 2, 0.5, 0.5, float("new" in passage), cost=10)

    monkeypatch.setattr(retrieval, "p_look", lambda m, t, qs: [0.2 if q == "known" else 0.8 for q in qs])
    monkeypatch.setattr(retrieval, "recall", lambda m, t, qs: [
        Reading("memory", None, None, -1.0, 2, None, None, 0.5, cost=3) for _ in qs])
    monkeypatch.setattr(retrieval, "queries", lambda m, t, qs: [f"of {q}" for q in qs])
    monkeypatch.setattr(retrieval, "read", lambda m, t, *rows: [reading(*row) for row in zip(*rows)])
    retrieve = lambda query: [] if "empty" in query else [Found("old", 2.0), Found("new", 1.0)]  # noqa: E731
    known, news, empty = retrieval.answer(None, None, ["known", "news", "empty"], retrieve, apart=True)
    assert (known.answer, known.looked, known.cost) == ("memory", False, 3)
    assert (news.answer, news.looked, news.cost) == ("news:new", True, 20)
    assert (empty.answer, len(empty.readings)) == ("empty:", 1)
    together = retrieval.answer(None, None, ["news"], retrieve)
    assert together[0].answer == "news:old\nnew" and together[0].cost == 10
    assert not retrieval.answer(None, None, ["news"], retrieve, 1.0)[0].looked
    assert retrieval.answer(None, None, ["known"], retrieve, -1.0)[0].looked
    assert retrieval.answer(None, None, [], retrieve) == []


def test_with_a_real_model_it_runs():
    """The base model was taught none of it: whatever it writes is read, scored and counted."""
    rng = random.Random(4)
    histories = [changing.history(f, rng) for f in changing.newcomers(Town(0, people=2), 4, rng)]
    retrieve = retrieval.retriever(changing.register(histories, rng))
    questions = [changing.ask_now(h).prompt for h in histories[:3]]
    for threshold in (-1.0, 1.0):
        for got in retrieval.answer(BASE, TOKENIZER, questions, retrieve, threshold, apart=True):
            assert got.looked == (threshold < 0) and got.cost > 0 and 0 <= got.p_look <= 1
            assert all(0 <= r.useful <= 1 and r.logp <= 0 for r in got.readings)


@pytest.mark.parametrize("call, says", [
    (lambda: retrieval.retriever("text"), "documents is 'text': give a list"),
    (lambda: retrieval.retriever([]), "without a word"),
    (lambda: retrieval.retriever(["a"], 0), "most is 0"),
    (lambda: retrieval.retriever(["a"])("x" * 501), "at most 500"),
    (lambda: retrieval.read(TINY, TOKENIZER, ["Q?"], ["q"], []), "passages is 0 for 1"),
    (lambda: retrieval.read(TINY, TOKENIZER, ["Q?"], ["q"], ["word " * 300]), "context is 256"),
    (lambda: retrieval.best([]), "readings is empty"),
    (lambda: retrieval.score(a_reading(0.0, 1, 1, 1, 1), (1, math.nan, 1)), "weights.supported is nan"),
    (lambda: retrieval.prior([]), "scores is empty"),
    (lambda: retrieval.prior([math.inf]), "finite"),
    (lambda: retrieval.marginal([0.5, 0.4], [[1], [1]]), "sum to 1"),
    (lambda: retrieval.marginal([1.0], [[1], [1]]), "2 rows for 1"),
    (lambda: retrieval.marginal([0.5, 0.5], [[1], [1, 0]]), "lengths"),
    (lambda: retrieval.after_each(TINY, TOKENIZER, "Q?", "q", [], ["a"]), "at least"),
    (lambda: retrieval.answer(TINY, TOKENIZER, "Q?", None), "questions is one text"),
    (lambda: retrieval.answer(TINY, TOKENIZER, ["Q?"], None, math.nan), "threshold"),
    (lambda: retrieval.trade([], 0.5, [], [], [], []), "chance is empty"),
    (lambda: retrieval.trade([0.5], 0.5, [1], [1], [1], []), "as many"),
])
def test_retrieval_refuses(call, says):
    with pytest.raises(ValueError, match=says):
        call()
