"""Chains learned from outcomes: the model thinks as it likes, and only whether the answer is right counts.

On the town: sums whose steps stand in no text. Or the learner's own task, questions with exact answers.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

from ..batch import batch_packed
from ..methods import supervised
from ..recipes.imitate import ROW
from ..sample import ask
from ..thinking import scratchpad
from ..tokenizer import Response
from ..train import Settings, train
from ..worlds.answers import Answer, is_right
from ..worlds.questions import Question
from ..worlds.sums import Sums, steps_are_true
from .quiz import Quiz, Sample, Score, Stage, one_line

F = "1 if the answer is right, else 0: nobody looks at the chain"
Pair = tuple[list[int], list[int]]  # (x, y), a prompt's ids and a response's
KEPT = 400      # right responses that are learned from at once: the latest
STEPS = 20      # of a round
TEMPERATURE = 1.3  # of what is drawn: a chain that is rare at 1 is found sooner
PATIENCE = 3    # rounds without one right answer
LEAST_ROOM = 16  # tokens that a chain may have at least


def held_out(sums: Sums, n: int = 100) -> list[Question]:
    """n sums whose steps stand in no text, the same ones whatever the seed; their numbers are held out."""
    return random.Random("held out, uneven").sample(sums.uneven(held=True), n)


def travel_town(journey, quiz: Quiz, training: Sequence[Question]) -> None:
    """A number of one digit and one of two: chains that nobody has written, learned from outcomes.

    The right responses of the last rounds stay in `journey.found`, so that a later stage can rehearse them.
    """
    stage = journey.begin(Stage("chains learned from outcomes", "sums whose steps stand in no text (data)",
                                "the model's own chain and answer", F))
    held = [q for q in quiz.held if q.kind == "uneven_steps"]
    right = lambda q, y: q.check(y).right  # noqa: E731
    before = quiz.ask(journey)
    # What is not asked about is rehearsed beside it, each group of the quiz alike.
    groups = [[q.pair(journey.tokenizer) for q in quiz.training if q.kind in kinds]
              for kinds in quiz.GROUPS.values()]
    journey.found = _learn(journey, stage, training, held, right, [g for g in groups if g], room=32)
    after = quiz.ask(journey)
    stage.scores = quiz.scores(before, after)
    thoughts = [y.thought or "" for q, y in zip(quiz.held, after) if q in held and right(q, y)]
    if thoughts:
        true = sum(map(steps_are_true, thoughts))
        stage.notes.append(f"Of the {len(thoughts)} right answers {true} stand on steps that are all true. "
                           "An outcome pays for the answer alone: the steps may be a shorthand of the "
                           "model's own.")
    journey.finish(stage)


def travel_own(journey, training: Sequence[Question], held: Sequence[Question], answers: dict[str, Answer],
               name: str, rehearsed: Sequence[Pair] = ()) -> None:
    """The learner's own task. answers: of each prompt, as `answers.exact` gives it.

    rehearsed: pairs that were learned before, which make up a third of a batch.
    """
    stage = journey.begin(Stage("chains learned from outcomes", f"questions ({name})",
                                "the model's own chain and answer", F))
    right = lambda q, y: y.ended and is_right(y.text, answers[q.prompt])  # noqa: E731
    longest = max(len(journey.tokenizer.prompt(q.prompt)) for q in (*training, *held))
    context = journey.model.config.context
    room = min(64 if journey.tokenizer.own else 128, context - longest)
    before, first = _share(journey, held, right, room), copy.deepcopy(journey.model)
    found = _learn(journey, stage, training, held, right, [list(rehearsed)] if rehearsed else [], room)
    after = _share(journey, held, right, room) if found else before
    stage.scores = [Score(f"held-out answers right ({len(held)} questions)", before, after, "%")]
    shares = (f"{100 * before:.0f} % → {100 * after:.0f} % of {len(held)} held-out questions of {name} are "
              "answered right")
    if not found:
        journey.verdict = f"Nothing was learned from {name}: no answer was right, so F was 0 everywhere."
    elif after < before:
        journey.model = first
        journey.verdict = f"{shares}: that is worse, so the model from before is kept."
    else:
        journey.verdict = f"{shares}."
    journey.finish(stage)


def _learn(journey, stage: Stage, questions: Sequence[Question], held: Sequence[Question],
           right: Callable[[Question, Response], bool], rehearsed: list[list[Pair]], room: int) -> list[Pair]:
    """Rounds of drawing, judging and learning; returns the right responses that were learned from last.

    A round's draw is judged by outcome. What is right is learned with F = 1, together with the right
    responses of the rounds before; what is not has F = 0 and needs no work. Stops early where none is right.
    The stage gets its curve, notes and chains.
    """
    tokenizer, own = journey.tokenizer, journey.tokenizer.own
    asked, n = min(256 if own else 32, len(questions)), 8
    draw = scratchpad.outcomes(journey.model, tokenizer, questions, room, asked=asked, n=n, right=right,
                               temperature=TEMPERATURE, seed=journey.seed)
    rounds = journey.scale.chains
    found: list[Pair] = []
    curve, written, ended = [], [], 0.0
    for r in range(rounds):
        batch = draw(r)
        curve.append(float(batch.rewards.mean()))
        written.append(int(batch.response_mask.sum()) / len(batch.tokens))
        ended = float(batch.ended.float().mean())
        found = (found + _right_ones(batch))[-KEPT:]
        if found:
            _fit(journey, found, rehearsed, r)
        _tell(journey, stage, r, rounds, curve[-1], held, right, room)
        if not found and r + 1 == PATIENCE:
            break
    stage.notes.append("right of what was drawn, round by round: "
                       + ", ".join(f"{100 * share:.1f} %" for share in curve))
    stage.notes.append(f"tokens of a chain with its answer: {written[0]:.0f} at first, {written[-1]:.0f} now")
    if not found:
        stage.notes += [
            f"Stopped early: of {len(curve) * asked * n:,} answers none was right, so F was 0 everywhere and "
            f"there was nothing to learn. {100 * ended:.0f} % of them ended by themselves.",
            "What helps: put easier questions of the same kind into the file; show a few worked examples "
            "first, with QA=FILE.jsonl (an answer may hold its steps and end in \"The answer is 12.\"); "
            "begin with a stronger checkpoint, FROM=FOLDER."]
    stage.curve = (list(range(1, len(curve) + 1)), [100 * share for share in curve], "round",
                   "drawn answers right (%)")
    stage.caption = f"{asked} questions a round, {n} answers to each, before the round is learned from."
    return found


def _right_ones(batch) -> list[Pair]:
    """(x, y) of the right responses of a draw: of each question at most two, each only once."""
    by_question: dict[int, list[Pair]] = {}
    responses = zip(batch.group.tolist(), batch.keep.tolist(), batch.tokens, batch.response_mask)
    for group, keep, row, mask in responses:
        start = int(mask.int().argmax())
        pair = row[:start].tolist(), row[mask].tolist()
        some = by_question.setdefault(group, [])
        if keep and pair not in some and len(some) < 2:
            some.append(pair)
    return [pair for some in by_question.values() for pair in some]


def _fit(journey, found: list[Pair], rehearsed: list[list[Pair]], r: int) -> None:
    """A few steps on right responses; a third of a batch is rehearsed, each group alike."""
    longest = max(len(x) + len(y) for x, y in found)                                # tokens
    rows = min(52, max(5, 4096 // longest))
    known = rows // 3 if rehearsed else 0

    def draw(step: int):
        rng = random.Random(f"chains/{journey.seed}/{r}/{step}")
        pairs = rng.choices(found, k=rows - known)
        pairs += [rng.choice(rng.choice(rehearsed)) for _ in range(known)]
        longest = max(len(x) + len(y) for x, y in pairs)
        return batch_packed([[pair] for pair in pairs], min(journey.model.config.context, max(ROW, longest)))

    train(journey.model, draw, supervised.coefficient,
          Settings(STEPS, **journey.rates(5e-4, 0.002), decay=0.9), label=f"   round {r + 1}",
          progress=journey.progress)


def _tell(journey, stage: Stage, r: int, rounds: int, share: float, held: Sequence[Question],
          right: Callable[[Question, Response], bool], room: int) -> None:
    """A line for the round, with a held-out question's chain as it is now; some of them for the page."""
    questions = held[:2]
    answered = ask(journey.model, journey.tokenizer, [q.prompt for q in questions], room)
    samples = [Sample(f"round {r + 1}: {q.prompt}",
                      ("" if y.thought is None else f"[{y.thought}] ") + one_line(y.text, 200),
                      "✓ right" if right(q, y) else f"✗ not {one_line(q.answer, 60)}")
               for q, y in zip(questions, answered)]
    if r in (0, rounds // 4, rounds // 2, rounds - 1):
        stage.samples += samples
    shown = samples[r % len(samples)]
    print(f"   round {r + 1}: {100 * share:.1f} % of the draw right   "
          f"{one_line(shown.asked.partition(': ')[2], 60)}  ⟶  {one_line(shown.answered, 60)}  "
          f"{shown.verdict}", flush=True)


def _share(journey, held: Sequence[Question], right: Callable[[Question, Response], bool],
           room: int) -> float:
    """The share of held-out questions that are answered right, greedily."""
    answered = ask(journey.model, journey.tokenizer, [q.prompt for q in held], room)
    return sum(right(q, y) for q, y in zip(held, answered)) / len(held)
