"""The stages on what people prefer: the town's simulated people, or the learner's own comparisons.

The steps themselves are in `recipes`.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence

from torch import Tensor

from ..methods import dpo
from ..sample import ask, sample
from ..tokenizer import Tokenizer
from ..worlds.judgements import gold, judge
from ..worlds.own import BadFile
from ..worlds.questions import Question
from ..worlds.town import PERSONAL, RELATIONS, Town
from ..recipes import BETA, LONGEST
from ..recipes.compare import PERSON, compare, comparisons_of
from ..recipes.evaluate import interval, put_aside, weigh
from ..recipes.imitate import CARELESS, RATES, asked, demonstrations, imitate
from ..recipes.learn_reward import gaps, judged_by, learn_reward
from ..recipes.ppo import climb
from ..recipes.prefer import prefer
from .quiz import Quiz, Sample, Score, Stage, numbers, one_line

ANSWERS = 4  # to each held-out question: what a policy is like, with less luck in it


def travel_town(journey, town: Town, quiz: Quiz) -> None:
    """Careless demonstrations, comparisons and a reward model, PPO against it, DPO from the same comparisons.

    All are scored on the same held-out questions. Of imitation, PPO on its way and DPO the journey keeps
    the one with the highest learned reward − β·KL on held-out questions that are put aside for this and
    used for nothing else.
    """
    tokenizer, seed, progress = journey.tokenizer, journey.seed, journey.progress
    training = asked(town, False, random.Random(f"asked/{seed}"))
    choosing, held = put_aside(asked(town, True, random.Random("held out")))
    bars = lambda name: {"label": f"   {name}", "progress": progress}  # noqa: E731

    stage = journey.begin(Stage("imitating careless people", "questions about famous people (data)",
                                "answers as people write them (data)", "1"))
    rng = random.Random(f"demonstrations/{seed}")
    demos = demonstrations(town, tokenizer, rng)
    # What careless people are not asked about is rehearsed beside it, or it is forgotten: each kind of
    # sum and fact alike.
    rest: dict[str, list] = {}
    for q in quiz.training:
        if q.kind not in PERSONAL:
            rest.setdefault(q.kind, []).append(q.pair(tokenizer))
    if journey.found:
        rest["uneven_steps"] = journey.found  # in the model's own words: nobody wrote any
    rehearsed = [rng.choice(rest[rng.choice(sorted(rest))]) for _ in demos]
    before = weigh(journey.model, journey.model, None, tokenizer, held, seed, ANSWERS)
    known = _known(journey, quiz)
    del before["KL (nats)"]  # to itself
    rows = imitate(journey.model, demos + rehearsed, _part(journey, 5 / 4), journey.rates(**RATES), seed,
                   **bars("imitation"))
    reference = copy.deepcopy(journey.model)
    after = weigh(reference, reference, None, tokenizer, held, seed, ANSWERS)
    stage.table = _table({"before": before, "imitation": after}, held)
    stage.curve = (list(range(1, len(rows) + 1)), [r["nll"] for r in rows], "step",
                   "loss (nats per answer token)")
    stage.caption = (
        f"{len(demos):,} answers, {CARELESS['wrong']:.0%} of them wrong, some courteous, some rambling; "
        "half of a batch are sums and other facts, so that these are not forgotten.")
    stage.notes = ["The gold reward is the town's own, and no stage learns from it: 1 for a right answer, "
                   "−1 for a wrong one, ½ for a courtesy, −¼ for each sentence too many, "
                   "−1 for an answer that does not end."]
    journey.finish(stage)

    stage = journey.begin(Stage("reward model", "pairs of the model's own answers", "a person's choice",
                                "1, on ∇ log p(choice)"))
    sets = [compare(reference, tokenizer, questions, [PERSON], random.Random(f"people/{name}/{seed}"),
                    journey._generator(name, 0, journey.device))
            for name, questions in (("compared", training * 2), ("compared, held out", held))]
    pairs, held_pairs = comparisons_of(sets[0]), comparisons_of(sets[1])
    # The head begins at 0, and must grow as large as the rewards are: a higher rate than tuning takes.
    learned, rows = learn_reward(reference, sets[0], _part(journey, 1 / 3), journey.rates(1e-2, 0.01), seed,
                                 **bars("reward model"))
    some = sample(reference, [tokenizer.prompt(q.prompt) for q in training[:256]], LONGEST, end=tokenizer.end,
                  generator=journey._generator("standardise", 0, journey.device))
    learned.standardise(some.tokens, some.response_mask)
    right, half = interval((gaps(learned, held_pairs).cpu() > 0).float().tolist())
    stage.notes = [f"{len(pairs):,} comparisons of answers to {len(sets[0])} questions; "
                   f"on {len(held_pairs)} of held-out questions it chooses as the person did in "
                   f"{100 * right:.0f} ± {100 * half:.0f} %",
                   "Its zero and its unit are free; "
                   "they are set to mean 0 and variance 1 over the model's own answers."]
    stage.curve = (list(range(1, len(rows) + 1)), [r["loss"] for r in rows], "step", "loss (nats per choice)")
    stage.caption = f"−log p of the choices; {math.log(2):.3f} nats is what a coin would cost."
    journey.finish(stage)

    stage = journey.begin(Stage("PPO against the reward model", "questions (data)", "the model a moment ago",
                                "ρ·A, and 0 where clipping stops it"))
    seen = []  # (learned reward − β·KL on the questions to choose by, the policy's name), in order

    def consider(policy, name: str) -> None:
        """Keep the policy if it is the best so far by what one can see without the gold reward."""
        weighed = weigh(policy, reference, learned, tokenizer, choosing, seed, ANSWERS)
        seen.append((objective(weighed), name))
        if seen[-1] == max(seen, key=lambda pair: pair[0]):
            journey.model = copy.deepcopy(policy)

    consider(reference, "imitation")
    policy, every = copy.deepcopy(reference), max(1, journey.scale.draws // 4)
    rows = climb(policy, reference, judged_by(learned), [tokenizer.prompt(q.prompt) for q in training],
                     journey.scale.draws, journey.rates(5e-4, 0.0015), seed, tokenizer.end, beta=BETA,
                     look=lambda n: n % every or consider(policy, f"PPO after {n} draws"), **bars("PPO"))
    draws = [r for r in rows if "objective" in r]
    policies = {"imitation": weigh(reference, reference, learned, tokenizer, held, seed, ANSWERS),
                "PPO": weigh(policy, reference, learned, tokenizer, held, seed, ANSWERS)}
    stage.table = _table(policies, held)
    climbed = ", ".join(f"{r['objective']:.2f}" for r in draws).replace("-", "−")
    stage.notes = [f"learned reward − {BETA}·KL, draw by draw: {climbed}"]
    stage.curve = (list(range(1, len(draws) + 1)), [r["objective"] for r in draws], "draw of 64 answers",
                   f"learned reward − {BETA}·KL")
    stage.caption = "What PPO climbs, on the answers of each draw, before it is trained on them."
    journey.finish(stage)

    stage = journey.begin(Stage("DPO from the same comparisons", "questions (data)",
                                "a comparison, chosen and rejected (data)", "±β·σ(−βh)"))
    direct = copy.deepcopy(reference)
    rows = prefer(direct, reference, pairs, _part(journey, 1 / 4), journey.rates(1e-3, 0.003), seed,
                  beta=BETA, **bars("DPO"))
    consider(direct, "DPO")
    policies["DPO"] = weigh(direct, reference, learned, tokenizer, held, seed, ANSWERS)
    stage.table = _table(policies, held)
    stage.notes = [
        f"log p of the {which} answers went from {rows[0][which]:.1f} to {rows[-1][which]:.1f} nats"
        for which in ("chosen", "rejected")]
    stage.curve = (list(range(1, len(rows) + 1)), [r["loss"] for r in rows], "step",
                   "DPO's loss (nats per choice)")
    stage.caption = f"−log σ(βh) on batches of comparisons; {math.log(2):.3f} nats is what a coin would cost."
    journey.finish(stage)

    stage = journey.begin(
        Stage("the model that is kept", f"{len(choosing)} questions used for nothing else",
              "the answers of each policy", "no gradient here: the highest learned reward − β·KL is kept"))
    name = max(seen, key=lambda pair: pair[0])[1]
    policies["kept"] = weigh(journey.model, reference, learned, tokenizer, held, seed, ANSWERS)
    stage.table = _table({"before imitation": before, **policies}, held)
    stage.scores = [Score(name, known[name], share, "%") for name, share in _known(journey, quiz).items()]
    first, kept = policies["imitation"], policies["kept"]
    gain = {what: _lead(kept, first, what) for what in ("gold reward", "right")}
    lead = {what: _lead(policies["PPO"], policies["DPO"], what) for what in gain}
    ahead = {
        what: "PPO is ahead" if mean > half else "DPO is ahead" if mean < -half else "no difference shows"
        for what, (mean, half) in lead.items()}
    (reward, reward_half), (share, share_half) = gain["gold reward"], gain["right"]
    journey.verdict = (
        f"Kept: {name}. Beside imitation, on {len(held)} held-out questions: "
        f"gold reward {_mean(first, 'gold reward')} → {_mean(kept, 'gold reward')} "
        f"(question by question {reward:+.2f} ± {reward_half:.2f}), "
        f"right answers {_mean(first, 'right')} → {_mean(kept, 'right')} ({share:+.2f} ± {share_half:.2f}), "
        f"KL {_mean(kept, 'KL (nats)')} nats.")
    if journey.found:
        now = next(s.after for s in stage.scores if s.name.startswith("uneven"))
        journey.verdict += (f" Of the sums whose steps stand in no text {100 * now:.0f} % are still right: "
                            "those chains were learned from outcomes alone.")
    chosen_by = ", ".join(f"{who} {value:.2f}" for value, who in seen).replace("-", "−")
    leads = ", ".join(f"{what} {mean:+.2f} ± {half:.2f} ({ahead[what]})"
                      for what, (mean, half) in lead.items()).replace("-", "−")
    stage.notes = [journey.verdict,
                   f"learned reward − {BETA}·KL on the questions to choose by: {chosen_by}",
                   f"PPO less DPO, question by question: {leads}.",
                   "The shares: before imitation and now, one greedy answer each; "
                   "a courtesy does not make a fact wrong."]
    stage.samples = [Sample(q.prompt, f"{who}: {y.text}", f"gold {gold(q, y):.2f}") for q in held[:3]
                     for who, model in (("imitation", reference), ("kept", journey.model))
                     for y in ask(model, tokenizer, [q.prompt], LONGEST)]
    journey.finish(stage)
    journey.policies = {who.lower(): {"gold": interval(weighed["gold reward"])[0],
                                      "right": interval(weighed["right"])[0],
                                      "kl": interval(weighed["KL (nats)"])[0]}
                        for who, weighed in policies.items()}
    journey.policies["kept"]["name"] = name


def _known(journey, quiz: Quiz) -> dict[str, float]:
    """The share of each group of the quiz that the model still answers right, in whatever words."""
    right = {}
    for q, y in zip(quiz.held, quiz.ask(journey)):
        group = next(name for name, kinds in quiz.GROUPS.items() if q.kind in kinds)
        right.setdefault(group, []).append(judge(q, y).right if q.kind in RELATIONS else q.check(y).right)
    return {f"{group} ({len(marks)} questions)": sum(marks) / len(marks) for group, marks in right.items()}


def _part(journey, share: float) -> int:
    """Steps of a stage, as a share of those of instruction tuning."""
    return max(1, round(journey.scale.tuning_steps * share))


def _lead(a: dict[str, list[float]], b: dict[str, list[float]], name: str) -> tuple[float, float]:
    """How much more of something a policy has than another, (mean, half of its 95 % interval).

    The difference is taken question by question.
    """
    return interval([x - y for x, y in zip(a[name], b[name])])


def _mean(weighed: dict[str, list[float]], name: str) -> str:
    return f"{interval(weighed[name])[0]:.2f}"


def objective(weighed: dict[str, list[float]]) -> float:
    """Learned reward − β·KL, the mean over questions.

    It is what PPO climbs, and all that can be seen of it without the gold reward.
    """
    return interval([r - BETA * kl for r, kl in zip(weighed["learned reward"], weighed["KL (nats)"])])[0]


def _table(policies: dict[str, dict[str, list[float]]], held: Sequence[Question]) -> list[list[str]]:
    """Rows for people: each measure's mean ± half of its interval over the questions, side by side."""
    names = list(list(policies.values())[-1])

    def cell(weighed: dict, name: str) -> str:
        return "{:.2f} ± {:.2f}".format(*interval(weighed[name])) if name in weighed else "–"

    rows = [[name, *(cell(weighed, name) for weighed in policies.values())] for name in names]
    if "learned reward" in names:
        objectives = [f"{objective(weighed):.2f}" if "learned reward" in weighed else "–"
                      for weighed in policies.values()]
        rows.insert(2, [f"learned reward − {BETA}·KL", *objectives])
    return [[f"{len(held)} held-out questions, {ANSWERS} answers each", *policies], *rows]


def travel_own(journey, training: Sequence, held: Sequence, name: str, imitated: bool) -> None:
    """The learner's own (prompt, chosen, rejected), as `split` gives them.

    The chosen are imitated, unless questions were given for that; then a reward model; then DPO.
    """
    tokenizer, seed = journey.tokenizer, journey.seed
    mean = sum(len(x) + max(len(w), len(l)) for x, w, l in training) // len(training)
    size = min(24, max(2, 2048 // mean))
    steps = min(_part(journey, 1 / 3), 1 + 8 * len(training) // size)  # eight times through the file, or less
    bars = lambda name: {"label": f"   {name}", "progress": journey.progress}  # noqa: E731
    if not imitated:
        stage = journey.begin(Stage("imitating the chosen answers", f"prompts ({name})",
                                    f"their chosen answers ({name})", "1"))
        learned = imitate(journey.model, [(x, w) for x, w, _ in training], steps, journey.rates(**RATES),
                          seed, rows=2 * size, **bars("imitation"))
        stage.curve = (list(range(1, steps + 1)), [r["nll"] for r in learned], "step",
                       "loss (nats per answer token)")
        stage.caption = f"The loss on the chosen answers of {len(training):,} rows."
        journey.finish(stage)

    stage = journey.begin(Stage("reward model", f"pairs of answers ({name})", "somebody's choice",
                                "1, on ∇ log p(choice)"))
    rankings = [_Row(x, [w, l]) for x, w, l in training]
    reward, learned = learn_reward(journey.model, rankings, steps, journey.rates(1e-2, 0.01), seed, rows=size,
                                   **bars("reward model"))
    stage.scores = [Score(f"held-out choices told ({len(held)} rows)", 0.5,
                          float((gaps(reward, held) > 0).float().mean()), "%")]
    stage.notes = [f"between {_chance(len(held))} would be luck: "
                   "nineteen in twenty coins that are thrown as often fall there"]
    stage.curve = (list(range(1, steps + 1)), [r["loss"] for r in learned], "step", "loss (nats per choice)")
    stage.caption = f"−log p of the choices; {math.log(2):.3f} nats is what a coin would cost."
    journey.finish(stage)

    stage = journey.begin(Stage("DPO", f"prompts ({name})", f"a pair, chosen and rejected ({name})",
                                "±β·σ(−βh)"))
    reference = copy.deepcopy(journey.model)
    before = _logprobs(reference, held)
    learned = prefer(journey.model, reference, training, steps, journey.rates(1e-3, 0.003), seed, beta=BETA,
                     rows=size, **bars("DPO"))
    after = _logprobs(journey.model, held)
    log_ratio = after - before                                                      # (P, 2)
    h = log_ratio[:, 0] - log_ratio[:, 1]
    stage.scores = [Score(f"held-out choices told by h > 0 ({len(held)} rows)", 0.5,
                          float((h > 0).float().mean()), "%"),
                    *(Score(f"log p of the held-out {which}", float(before[:, i].mean()),
                            float(after[:, i].mean()), "nats")
                      for i, which in enumerate(("chosen", "rejected")))]
    prompts = list(dict.fromkeys(tokenizer.decode(x[1:-1]) for x, _, _ in held))[:4]
    stage.samples = [Sample(prompt, one_line(y.text, 200), "" if y.ended else "(cut)")
                     for prompt, y in zip(prompts, ask(journey.model, tokenizer, prompts, 64))]
    stage.curve = (list(range(1, steps + 1)), [r["loss"] for r in learned], "step",
                   "DPO's loss (nats per choice)")
    stage.caption = (f"−log σ(βh) on batches of comparisons, β = {BETA}; "
                     f"{math.log(2):.3f} nats is what a coin would cost.")
    journey.finish(stage)


class _Row:
    """A prompt and its answers, best first."""

    def __init__(self, prompt: list[int], answers: list[list[int]]):
        self.prompt, self.answers = prompt, answers


def _logprobs(model, pairs: Sequence) -> Tensor:
    """log p of the chosen and the rejected of each row, (P, 2)."""
    both = [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs]
    return dpo.reference_logprobs(model, both, rows=16).reshape(2, -1).T.cpu()


def split(rows: Sequence[tuple[str, str, str]], tokenizer: Tokenizer, context: int, rng: random.Random,
          name: str) -> tuple[list, list]:
    """(training, held out), (prompt, chosen, rejected) as ids; a tenth of the prompts is held out.

    All rows of a prompt are on one side. Rows that the context cannot hold are left out, and named.
    BadFile where too few are left.
    """
    ids = [(tokenizer.prompt(x), tokenizer.response(w), tokenizer.response(l)) for x, w, l in rows]
    long = [i + 1 for i, (x, w, l) in enumerate(ids) if len(x) + max(len(w), len(l)) > context]
    by_prompt: dict[str, list] = {}
    for (prompt, *_), row in zip(rows, ids):
        if len(row[0]) + max(len(row[1]), len(row[2])) <= context:
            by_prompt.setdefault(prompt, []).append(row)
    if len(by_prompt) < 2:
        that_fit = " that fits" if len(by_prompt) == 1 else "s that fit"
        raise BadFile(f"{name}: {len(by_prompt)} different prompt{that_fit} a context of {context} tokens; "
                      "give at least two, since some are held out")
    if long:
        print(f"{len(long)} of {len(rows)} preferences are longer than the context of {context} tokens "
              f"and are left out: rows {numbers(long)}")
    groups = list(by_prompt.values())
    rng.shuffle(groups)
    n = max(1, len(groups) // 10)
    return [row for group in groups[n:] for row in group], [row for group in groups[:n] for row in group]


def _chance(n: int) -> str:
    """Where 95 % of the shares of heads of n coins lie."""
    half = 1.96 * 0.5 / math.sqrt(n)
    return f"{100 * max(0, 0.5 - half):.0f} and {100 * min(1, 0.5 + half):.0f} %"
