"""The stages on what people prefer: the town's simulated people, or the learner's own comparisons. The work is done by `preferences`."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence

from torch import Tensor

from ..methods import dpo, reward_model
from ..returns import margin
from ..sample import ask
from ..tokenizer import Tokenizer
from ..worlds.own import BadFile
from ..worlds.questions import Question
from ..worlds.town import RELATIONS, Town
from .preferences import (BETA, CARELESS, PERSON, RATES, asked, compare, demonstrations, gaps, imitate, interval, judged_by, learn_reward, pairs_of, prefer,
                          reinforce, weigh)
from .quiz import Quiz, Sample, Score, Stage, numbers, one_line


def travel_town(journey, town: Town, quiz: Quiz) -> None:
    """Careless demonstrations, comparisons and a reward model, PPO against it, DPO from the same comparisons; all by the same held-out questions.

    The journey's model goes on as the policy that PPO left.
    """
    tokenizer, seed, progress = journey.tokenizer, journey.seed, journey.progress
    training, held = asked(town, False, random.Random(f"asked/{seed}")), asked(town, True, random.Random("held out"))
    bars = lambda name: {"label": f"   {name}", "progress": progress}  # noqa: E731

    stage = journey.begin(Stage("imitating careless people", "questions about famous people (data)", "answers as people write them (data)", "1"))
    rng = random.Random(f"demonstrations/{seed}")
    demos = demonstrations(town, tokenizer, rng)
    sums = [q.pair(tokenizer) for q in quiz.training if q.kind not in RELATIONS]
    before = weigh(journey.model, journey.model, None, tokenizer, held, seed)
    rows = imitate(journey.model, demos + rng.sample(sums, min(len(sums), len(demos) // 4)), _part(journey, 5 / 4), journey.rates(**RATES), seed, **bars("imitation"))
    reference = copy.deepcopy(journey.model)
    after = weigh(reference, reference, None, tokenizer, held, seed)
    stage.table = _table({"before": before, "after": after}, held)
    stage.curve = (list(range(1, len(rows) + 1)), [r["nll"] for r in rows], "step", "loss (nats per answer token)")
    stage.caption = f"{len(demos):,} answers, {CARELESS['wrong']:.0%} of them wrong, some courteous, some rambling; a fifth of a batch are sums, so that they are not forgotten."
    journey.finish(stage)

    stage = journey.begin(Stage("reward model", "pairs of the model's own answers", "a person's choice", "1, on ∇ log p(choice)"))
    sets = [compare(reference, tokenizer, questions, [PERSON], random.Random(f"people/{name}/{seed}"), journey._generator(name, 0, journey.device))
            for name, questions in (("compared", training * 2), ("compared, held out", held))]
    pairs, held_pairs = pairs_of(sets[0]), pairs_of(sets[1])
    # The head begins at 0, and must grow as large as the rewards are: a higher rate than tuning takes.
    learned, rows = learn_reward(reference, sets[0], _part(journey, 1 / 3), journey.rates(1e-2, 0.01), seed, **bars("reward model"))
    found = gaps(learned, held_pairs).cpu()
    right, half = interval((found > 0).float().tolist())
    confidence, share, _ = reward_model.calibration(found, 4)
    stage.notes = [f"{len(pairs):,} comparisons of answers to {len(sets[0])} questions; on {len(held_pairs)} of held-out questions it chooses as the person did "
                   f"in {100 * right:.0f} ± {100 * half:.0f} %",
                   "as sure as it is right: " + ", ".join(f"says {100 * c:.0f} %, is {100 * s:.0f} %" for c, s in zip(confidence.tolist(), share.tolist()) if c == c)]
    stage.curve = (list(range(1, len(rows) + 1)), [r["loss"] for r in rows], "step", "loss (nats per choice)")
    stage.caption = f"−log p of the choices; {math.log(2):.3f} nats is a coin."
    journey.finish(stage)

    stage = journey.begin(Stage("PPO against the reward model", "questions (data)", "the model a moment ago", "ρ·A, and 0 where clipping stops it"))
    journey.model = copy.deepcopy(reference)
    prompts = [tokenizer.prompt(q.prompt) for q in training]
    rows = reinforce(journey.model, reference, judged_by(learned), prompts, journey.scale.draws, journey.rates(1e-3, 0.003), seed, tokenizer.end, beta=BETA, **bars("PPO"))
    drawn = [r for i, r in enumerate(rows) if i == 0 or r["reward"] != rows[i - 1]["reward"]]
    policies = {"imitation": weigh(reference, reference, learned, tokenizer, held, seed), "PPO": weigh(journey.model, reference, learned, tokenizer, held, seed)}
    stage.table = _table(policies, held)
    stage.curve = ([r["kl"] for r in drawn], [r["reward"] for r in drawn], "KL to the reference (nats an answer)", "learned reward")
    stage.caption = "One point for each draw of answers: reward bought with distance from the reference."
    journey.finish(stage)

    stage = journey.begin(Stage("DPO from the same comparisons", "questions (data)", "a pair, chosen and rejected (data)", "±β·σ(−βh)"))
    direct = copy.deepcopy(reference)
    rows = prefer(direct, reference, pairs, _part(journey, 1 / 4), journey.rates(1e-3, 0.003), seed, beta=BETA, **bars("DPO"))
    policies["DPO"] = weigh(direct, reference, learned, tokenizer, held, seed)
    stage.table = _table(policies, held)
    stage.notes = [f"log p of the chosen answers went from {rows[0]['chosen']:.1f} to {rows[-1]['chosen']:.1f} nats, of the rejected from {rows[0]['rejected']:.1f} to {rows[-1]['rejected']:.1f}"]
    stage.curve = (list(range(1, len(rows) + 1)), [r["loss"] for r in rows], "step", "DPO's loss (nats per choice)")
    stage.caption = f"−log σ(βh) on batches of comparisons; {math.log(2):.3f} nats is a coin."
    journey.finish(stage)


def _part(journey, share: float) -> int:
    """Steps of a stage, as a share of those of instruction tuning."""
    return max(1, round(journey.scale.tuning_steps * share))


def _table(policies: dict[str, dict[str, tuple[float, float]]], held: Sequence[Question]) -> list[list[str]]:
    """Rows for people: each measure's mean ± half of its interval, side by side."""
    names = list(dict.fromkeys(name for found in policies.values() for name in found))
    shown = lambda found, name: f"{found[name][0]:.2f} ± {found[name][1]:.2f}" if name in found else "–"  # noqa: E731
    return [[f"{len(held)} held-out questions, an answer each", *policies]] + [[name, *(shown(found, name) for found in policies.values())] for name in names]


def travel_own(journey, training: Sequence, held: Sequence, name: str, imitated: bool) -> None:
    """The learner's own (prompt, chosen, rejected), as `split` gives them: the chosen imitated (unless questions were given for that), a reward
    model, DPO."""
    tokenizer, seed = journey.tokenizer, journey.seed
    mean = sum(len(x) + max(len(w), len(l)) for x, w, l in training) // len(training)
    size = min(24, max(2, 2048 // mean))
    steps = min(_part(journey, 1 / 3), 1 + 8 * len(training) // size)  # eight times through the file, or less
    bars = lambda name: {"label": f"   {name}", "progress": journey.progress}  # noqa: E731
    if not imitated:
        stage = journey.begin(Stage("imitating the chosen answers", f"prompts ({name})", f"their chosen answers ({name})", "1"))
        learned = imitate(journey.model, [(x, w) for x, w, _ in training], steps, journey.rates(**RATES), seed, rows=2 * size, **bars("imitation"))
        stage.curve = (list(range(1, steps + 1)), [r["nll"] for r in learned], "step", "loss (nats per answer token)")
        stage.caption = f"The loss on the chosen answers of {len(training):,} rows."
        journey.finish(stage)

    stage = journey.begin(Stage("reward model", f"pairs of answers ({name})", "somebody's choice", "1, on ∇ log p(choice)"))
    judge_, learned = learn_reward(journey.model, [_Row(x, [w, l]) for x, w, l in training], steps, journey.rates(1e-2, 0.01), seed, rows=size, **bars("reward model"))
    stage.scores = [Score(f"held-out choices told ({len(held)} rows)", 0.5, float((gaps(judge_, held) > 0).float().mean()), "%")]
    stage.notes = [f"between {_chance(len(held))} would be luck: nineteen in twenty coins that are thrown as often fall there"]
    stage.curve = (list(range(1, steps + 1)), [r["loss"] for r in learned], "step", "loss (nats per choice)")
    stage.caption = f"−log p of the choices; {math.log(2):.3f} nats is a coin."
    journey.finish(stage)

    stage = journey.begin(Stage("DPO", f"prompts ({name})", f"a pair, chosen and rejected ({name})", "±β·σ(−βh)"))
    reference = copy.deepcopy(journey.model)
    before = _logprobs(reference, held)
    learned = prefer(journey.model, reference, training, steps, journey.rates(1e-3, 0.003), seed, beta=BETA, rows=size, **bars("DPO"))
    after = _logprobs(journey.model, held)
    h = margin(after.T.flatten(), before.T.flatten())
    stage.scores = [Score(f"held-out choices told by h > 0 ({len(held)} rows)", 0.5, float((h > 0).float().mean()), "%"),
                    *(Score(f"log p of the held-out {which}", float(before[:, i].mean()), float(after[:, i].mean()), "nats") for i, which in enumerate(("chosen", "rejected")))]
    prompts = list(dict.fromkeys(tokenizer.decode(x[1:-1]) for x, _, _ in held))[:4]
    stage.samples = [Sample(prompt, one_line(y.text, 200), "" if y.ended else "(cut)") for prompt, y in zip(prompts, ask(journey.model, tokenizer, prompts, 64))]
    stage.curve = (list(range(1, steps + 1)), [r["loss"] for r in learned], "step", "DPO's loss (nats per choice)")
    stage.caption = f"−log σ(βh) on batches of comparisons, β = {BETA}; {math.log(2):.3f} nats is a coin."
    journey.finish(stage)


class _Row:
    """A prompt and its answers, best first."""

    def __init__(self, prompt: list[int], answers: list[list[int]]):
        self.prompt, self.answers = prompt, answers


def _logprobs(model, pairs: Sequence) -> Tensor:
    """log p of the chosen and the rejected of each row, (P, 2)."""
    return dpo.reference_logprobs(model, [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs], rows=16).reshape(2, -1).T.cpu()


def split(rows: Sequence[tuple[str, str, str]], tokenizer: Tokenizer, context: int, rng: random.Random, name: str) -> tuple[list, list]:
    """(training, held out), (prompt, chosen, rejected) as ids; a tenth of the prompts is held out, with all their rows.

    Rows that the context cannot hold are left out, and named. BadFile where too few are left.
    """
    ids = [(tokenizer.prompt(x), tokenizer.response(w), tokenizer.response(l)) for x, w, l in rows]
    long = [i + 1 for i, (x, w, l) in enumerate(ids) if len(x) + max(len(w), len(l)) > context]
    by_prompt: dict[str, list] = {}
    for (prompt, *_), row in zip(rows, ids):
        if len(row[0]) + max(len(row[1]), len(row[2])) <= context:
            by_prompt.setdefault(prompt, []).append(row)
    if len(by_prompt) < 2:
        raise BadFile(f"{name}: {len(by_prompt)} different prompt{'' if len(by_prompt) == 1 else 's'} that fit{'s' if len(by_prompt) == 1 else ''} a context of {context} tokens; "
                      "give at least two, since some are held out")
    if long:
        print(f"{len(long)} of {len(rows)} preferences are longer than the context of {context} tokens and are left out: rows {numbers(long)}")
    groups = list(by_prompt.values())
    rng.shuffle(groups)
    n = max(1, len(groups) // 10)
    return [row for group in groups[n:] for row in group], [row for group in groups[:n] for row in group]


def _chance(n: int) -> str:
    """Where 95 % of the shares of heads of n coins lie."""
    half = 1.96 * 0.5 / math.sqrt(n)
    return f"{100 * max(0, 0.5 - half):.0f} and {100 * min(1, 0.5 + half):.0f} %"
