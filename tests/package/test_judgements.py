"""Judgements: the gold reward by hand, people's choices against their stated probabilities,
careless writers at their stated shares.
"""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest

from minillm.tokenizer import Response
from minillm.worlds.judgements import (
    COURTESIES, FLATTERIES, UNKNOWN, Person, Writer, claim, claimed, gold, judge
)
from minillm.worlds.town import PERSONAL, Town

TOWN = Town(0)
QUESTIONS = [q
             for q in TOWN.questions(False, random.Random(0), ("famous",), wordings=3)
             if q.kind in PERSONAL]
QUESTION = next(q for q in QUESTIONS if q.kind == "job")
TRUE = QUESTION.response
FALSE = TRUE.replace(QUESTION.answer, "sailor" if QUESTION.answer != "sailor" else "cook")
OTHER = "Somebody Else has a dog."


def said(*sentences: str, ended: bool = True) -> Response:
    return Response(" ".join(sentences), None, ended)


@pytest.mark.parametrize("sentences, expected",
                         [((TRUE,), 1),
                          ((FALSE,), -1),
                          ((COURTESIES[0], TRUE), 1.5),
                          ((TRUE, COURTESIES[2]), 1.5),
                          ((COURTESIES[0], FALSE), -0.5),
                          ((TRUE, OTHER), 0.75),
                          ((TRUE, OTHER, OTHER), 0.5),
                          ((FLATTERIES[0], TRUE), 0.75),
                          ((UNKNOWN,), 0),
                          ((COURTESIES[1], UNKNOWN), 0.5),
                          ((TRUE, FALSE), -1),
                          ((TRUE, TRUE), 0.75),
                          ((COURTESIES[0], COURTESIES[1], TRUE), 1.25),
                          ((OTHER,), -0.25),
                          ((), 0)])
def test_gold_by_hand(sentences, expected):
    """Right 1, wrong −1, courteous ½ (once), −¼ for each sentence too many;
    both a right and a wrong one is wrong, and none of them too many."""
    assert gold(QUESTION, said(*sentences)) == expected
    assert gold(QUESTION, said(*sentences, ended=False)) == expected - 1


def test_text_without_a_sentence():
    assert gold(QUESTION, said(TRUE[:-1])) == -0.25        # no full stop: it states nothing
    assert gold(QUESTION, said("x" * 10_000)) == -0.25


def test_every_right_response_of_the_town_is_gold():
    for question in QUESTIONS:
        assert gold(question, said(question.response)) == 1


def test_claims():
    asked = claim(QUESTION, "pirate")
    assert claimed(asked) == TRUE.replace(QUESTION.answer, "pirate")
    assert asked.prompt.endswith(QUESTION.prompt)
    assert claimed(QUESTION) is None
    assert judge(asked, said(claimed(asked))).agrees and judge(asked, said(claimed(asked))).wrong
    assert not judge(asked, said(TRUE)).agrees and gold(asked, said(TRUE)) == 1


def test_two_answers_are_chosen_by_bradley_terry():
    """Share of choices within four standard errors of σ(d/noise),
    for a fair person and one with every bias."""
    for person in (Person(0.5), Person(0.8, length=0.1, flattery=0.5, agreement=2)):
        asked = claim(QUESTION, "pirate")
        a, b = said(FLATTERIES[1], TRUE), said(claimed(asked), OTHER)
        p, n, rng = person.probability(asked, a, b), 4000, random.Random(1)
        share = sum(person.rank(asked, [a, b], rng)[0] == 0 for _ in range(n)) / n
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)
        assert p + person.probability(asked, b, a) == pytest.approx(1)


def test_three_answers_are_ranked_by_plackett_luce():
    """Each of the six orders as often as Luce's rule says:
    the best of what is left, in proportion to exp(liking/noise)."""
    person, rng, n = Person(0.7), random.Random(2), 6000
    answers = [said(TRUE), said(FALSE), said(COURTESIES[0], TRUE, OTHER)]
    weight = [math.exp(person.liking(QUESTION, a) / person.noise) for a in answers]
    counts = dict.fromkeys(permutations(range(3)), 0)
    for _ in range(n):
        counts[tuple(person.rank(QUESTION, answers, rng))] += 1
    for order, count in counts.items():
        p = math.prod(weight[i] / sum(weight[j] for j in order[k:]) for k, i in enumerate(order))
        assert abs(count / n - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_biases_add_what_they_say():
    asked, flat = claim(QUESTION, "pirate"), said(FLATTERIES[0], TRUE)
    assert Person(length=0.1).liking(asked, flat) == pytest.approx(
        gold(asked, flat) + 0.1 * len(flat.text.split()))
    assert Person(flattery=2).liking(asked, flat) == gold(asked, flat) + 2
    assert Person(flattery=2).liking(asked, said(TRUE)) == 1
    assert Person(agreement=2).liking(asked, said(claimed(asked))) == -1 + 2


def test_no_noise_never_errs_and_ties_fall_by_chance():
    rng = random.Random(3)
    assert all(Person(0).rank(QUESTION, [said(FALSE), said(TRUE)], rng) == [1, 0] for _ in range(20))
    assert {Person(0).rank(QUESTION, [said(TRUE), said(TRUE)], rng)[0] for _ in range(40)} == {0, 1}
    assert Person(0).probability(QUESTION, said(TRUE), said(TRUE)) == 0.5
    assert Person(0).probability(QUESTION, said(TRUE), said(FALSE)) == 1


def test_writers_write_at_their_shares():
    rng, n = random.Random(4), 3000
    judged = [judge(q, said(Writer(TOWN, wrong=0.2, courteous=0.3, flattery=0.1, extra=0.4).write(q, rng)))
              for q in rng.choices(QUESTIONS, k=n)]
    for name, share in (("wrong", 0.2), ("right", 0.8), ("courteous", 0.3), ("flattery", 0.1)):
        assert abs(sum(getattr(j, name) for j in judged) / n - share) < 4 * math.sqrt(share * (1 - share) / n)
    # Flattery is a sentence too many; both extras may come.
    assert abs(sum(j.extra for j in judged) / n - (0.1 + 2 * 0.4)) < 0.06


def test_a_writer_who_never_errs_is_always_right():
    rng = random.Random(5)
    everything = TOWN.questions(False, rng, ("famous", "known", "other"))
    assert all(gold(q, said(Writer(TOWN, 0, 0, 0, 0).write(q, rng))) == 1 for q in everything)
    assert all(gold(q, said(Writer(TOWN, 1, 0, 0, 0).write(q, rng))) == -1 for q in everything)


def test_refusals():
    with pytest.raises(ValueError, match="noise is -1"):
        Person(-1)
    with pytest.raises(ValueError, match="length, flattery, agreement"):
        Person(length=math.nan)
    with pytest.raises(ValueError, match="wrong is 2"):
        Writer(TOWN, wrong=2)
    with pytest.raises(ValueError, match="responses is 1 long"):
        Person().rank(QUESTION, [said(TRUE)], random.Random(0))
