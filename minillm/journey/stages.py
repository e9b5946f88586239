"""The stages: tokens, pretraining, instruction tuning, self-training; on the town or on the learner's files.

Chains learned from outcomes are in `chains`, what people prefer is in `pipeline`.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from .. import hub
from ..batch import Batch, batch_pairs, batch_windows
from ..logprob import text_nats
from ..methods import self_training, supervised
from ..sample import sample
from ..tokenizer import Tokenizer
from ..train import Settings, train
from ..transformer import Config, Transformer, device_and_dtype
from ..worlds.answers import Answer, shown
from ..worlds.own import BadFile
from ..worlds.questions import Question
from ..worlds.sums import Sums
from ..worlds.town import PERSONAL, Town
from . import chains, pipeline, tools
from ..recipes.evaluate import put_aside
from ..recipes.imitate import asked, packed
from .quiz import TOWN, Quiz, Sample, Score, Stage, numbers, one_line, town_data


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    config: Config
    rows: int                 # of 256 tokens, in a pretraining batch
    steps: int                # of pretraining
    sums: int                 # short texts about numbers in the corpus
    questions: int            # of each kind of sum, for instruction tuning
    tuning_steps: int
    rounds: int               # of self-training
    chains: int               # rounds of chains learned from outcomes
    draws: int                # of PPO


SCALES = {
    "cpu": Scale(Config(), rows=8, steps=740, sums=3_500, questions=1_000, tuning_steps=220, rounds=4,
                 chains=10, draws=12),
    "gpu": Scale(Config(d_model=384, n_layers=6, n_heads=6, n_kv_heads=3, d_ff=1024), rows=64, steps=2_000,
                 sums=24_000, questions=4_000, tuning_steps=400, rounds=8, chains=12,
                 draws=40),
}


# The stages on the town, and their seconds on two quiet cores at SCALE=cpu. On another machine, and at
# another scale, all take longer or shorter by about one factor, which the stages that are done tell.
SECONDS = {"byte-pair tokens": 1, "pretraining": 110, "instruction tuning": 28, "self-training on sums": 17,
           "chains learned from outcomes": 42,
           "imitating careless people": 31, "reward model": 16, "PPO against the reward model": 16,
           "DPO from the same comparisons": 12, "the model that is kept": 2, "calling tools": 90}


class Journey:
    """The model on its way, and what has been seen of it. Each method below is one stage."""

    def __init__(self, scale: Scale, seed: int, progress: bool = True):
        self.scale, self.seed, self.progress = scale, seed, progress
        self.device, _ = device_and_dtype()
        self.rng = random.Random(f"journey/{seed}")
        self.stages: list[Stage] = []
        # Imitation, ppo, dpo, kept: gold, right and kl on the reported questions.
        self.policies: dict[str, dict] = {}
        self.found: list[tuple] = []  # (x, y): right responses with chains of the model's own
        self.on_the_town = False  # then the stages, and about how long they take, are known
        self.verdict = ""  # the whole journey in a sentence, once it is at its end
        self.model: Transformer | None = None
        self.tokenizer: Tokenizer | None = None

    def begin(self, stage: Stage) -> Stage:
        """Announce a stage: who makes x, who makes y, F."""
        print(f"\n{len(self.stages) + 1}. {stage.name}\n   x: {stage.x}\n   y: {stage.y}\n   F: {stage.F}",
              flush=True)
        stage.seconds = -time.perf_counter()
        return stage

    def finish(self, stage: Stage) -> None:
        """Say what came of it."""
        stage.seconds += time.perf_counter()
        width = max((len(s.name) for s in stage.scores), default=0)
        for s in stage.scores:
            print(f"   {s.name:<{width}}  {s.shown(s.before)} → {s.shown(s.after)}")
        if stage.table:
            widths = [max(map(len, column)) for column in zip(*stage.table)]
            for row in stage.table:
                print("   " + "  ".join(cell.rjust(width) if i else cell.ljust(width)
                                        for i, (cell, width) in enumerate(zip(row, widths))))
        for note in stage.notes:
            print(f"   {note}")
        for s in stage.samples:
            print(f"   · {one_line(s.asked)}  ⟶  {one_line(s.answered)}  {s.verdict}")
        self.stages.append(stage)
        print(f"   ({stage.seconds:.0f} s{self.left()})", flush=True)

    def left(self) -> str:
        """How long the stages that are still to come will take, where that can be told."""
        names = list(SECONDS)
        last = self.stages[-1].name
        ahead = names[names.index(last) + 1:] if last in names else []
        done = [stage for stage in self.stages if stage.name in SECONDS]
        if not ahead or not self.on_the_town:
            return ""
        factor = sum(stage.seconds for stage in done) / sum(SECONDS[stage.name] for stage in done)
        minutes = factor * sum(SECONDS[name] for name in ahead) / 60
        return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"

    def load(self, folder: str) -> None:
        """Start from a model that exists."""
        try:
            self.model, self.tokenizer = hub.load(folder, self.device)
            hub.add_marks(self.model, self.tokenizer)  # a checkpoint from elsewhere has none
        except (FileNotFoundError, ValueError) as error:
            raise BadFile(f"FROM: {error}") from None
        print(f"Starting from {folder}: {self.model.count_parameters():,} parameters, "
              f"{self.tokenizer.vocab_size} tokens.")

    def tokens(self, texts: Iterable[str], some: list[str], vocab_size: int, joined: bool = False) -> None:
        """Learn the byte pairs (texts, joined: see Tokenizer.train) and draw random weights. Measured on some
        of the texts."""
        stage = self.begin(Stage("byte-pair tokens", "the corpus", "–",
                                 "no gradient here: the commonest neighbours are joined"))
        self.tokenizer = Tokenizer.train(texts, vocab_size, joined=joined, progress=self.progress)
        config = replace(self.scale.config, vocab_size=self.tokenizer.vocab_size)
        self.model = Transformer(config, self.seed).to(self.device)
        n_bytes = sum(len(d.encode()) for d in some)
        stage.scores = [Score("length of the corpus", 1.0,
                              sum(map(len, self.tokenizer.encode_all(some))) / n_bytes, "tokens per byte")]
        example = next((line for text in some for line in text.splitlines() if line.strip()), "")[:60]
        pieces = "|".join(self.tokenizer.decode([i]) for i in self.tokenizer.encode(example))
        stage.notes = [f"{self.tokenizer.vocab_size} tokens; "
                       f"a model of {self.model.count_parameters():,} random weights. "
                       f"Read as: {one_line(pieces, 200)}"]
        self.finish(stage)

    def pretrain(self, windows: Callable[..., Batch], held: str, about: str, length: int, quiz: Quiz | None,
                 steps: int) -> None:
        """F = 1 on every next token. Scored in bits per byte of a text that was held out.

        windows(rows, length, generator) draws a batch of stretches of the text, as `batch_windows` does.
        """
        stage = self.begin(Stage("pretraining", f"the text so far ({about})", f"the next token ({about})",
                                 "1"))
        held_ids = torch.tensor([self.tokenizer.end, *self.tokenizer.encode(held)])
        n_bytes = len(held.encode())
        bits = lambda: (text_nats(self.model, held_ids.to(self.device), length)  # noqa: E731
                        / math.log(2) / n_bytes)
        before, asked = bits(), quiz.ask(self) if quiz else None
        at_once = self.scale.rows * 256 // length  # the same number of tokens, whatever their context
        rows = train(self.model, lambda step: windows(at_once, length, self._generator("text", step)),
                     supervised.coefficient,
                     Settings(steps, **self.rates(1e-2, 0.02)), label="   pretraining",
                     progress=self.progress)
        stage.scores = [Score("bits per byte of held-out text", before, bits(), "bits/byte")]
        if stage.scores[0].after > stage.scores[0].before:
            stage.notes.append("The held-out text became less likely: the model learned this text by heart. "
                               "Give a longer text.")
        stage.curve = ([r["tokens"] / 1e6 for r in rows], [r["nll"] for r in rows],
                       "tokens read (millions)", "loss (nats per token)")
        stage.caption = "The loss, −log p of the next token, falls as tokens are read."
        if quiz:
            answered = quiz.ask(self)
            stage.scores += [quiz.cloze(self), *quiz.scores(asked, answered)]
            if stage.scores[1].after > 0.5 > quiz.right(answered, *PERSONAL):
                stage.notes += ["Most facts are in the weights, and a question does not bring them out yet: "
                                "that is the next stage."]
        starts = ["\n"] * 3 if quiz is None else ["", "", ""]
        batch = sample(self.model, [[self.tokenizer.end, *self.tokenizer.encode(s)] for s in starts],
                       min(100, length - 2), temperature=0.8, top_p=0.95, end=self.tokenizer.end,
                       generator=self._generator("samples", 0, self.device))
        stage.samples = [Sample("(writes on from nothing)",
                                self.tokenizer.decode(row[mask].tolist()).strip(), "")
                         for row, mask in zip(batch.tokens, batch.response_mask)]
        self.finish(stage)

    def instruct(self, quiz: Quiz) -> None:
        """F = 1 on the answers that somebody wrote; the question is x and teaches nothing by itself."""
        stage = self.begin(Stage("instruction tuning", "questions (data)", "their answers (data)", "1"))
        before, bits = quiz.ask(self), quiz.bits(self)
        rows = self.tune(quiz)
        responses = quiz.ask(self)
        stage.scores = [*quiz.scores(before, responses),
                        Score("bits per byte of the right answers, their end included", bits,
                              quiz.bits(self), "bits/byte")]
        stage.samples = quiz.samples(responses)
        stage.curve = (list(range(1, len(rows) + 1)), [r["nll"] for r in rows], "step",
                       "loss (nats per answer token)")
        stage.caption = (f"The loss on answers alone, over {len(self.pairs):,} questions; "
                         "the questions' own tokens are masked.")
        self.finish(stage)

    def self_train(self, quiz: Quiz, sums: Sums, kinds: tuple[str, ...] = ("chain_steps", "compare")) -> None:
        """F = 1 if the checker keeps the model's own answer, else 0; new answers every round."""
        stage = self.begin(Stage("self-training on sums", "questions (data)", "the model's own answers",
                                 "1 if the exact checker keeps it, else 0"))
        before = quiz.ask(self)
        kept_share, right = [], [quiz.right(before, *kinds)]
        for r in range(self.scale.rounds):
            rng = random.Random(f"self-training/{self.seed}/{r}")
            asked = [q for kind in kinds for q in sums.questions(kind, 120, False, rng)]
            judge = lambda i, y: asked[i].check(self.tokenizer.read_response(y)).right  # noqa: E731
            batch = self_training.expert_iteration(
                self.model, [self.tokenizer.prompt(q.prompt) for q in asked], judge, 48, n=4,
                end=self.tokenizer.end, generator=self._generator("answers", r, self.device))
            kept_share.append(float(batch.keep.float().mean()))
            if not batch.keep.any():
                stage.notes.append(f"round {r + 1}: the checker kept nothing, "
                                   "so F was 0 everywhere and there was nothing to learn")
                break
            answers = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
            drawn = [(self.tokenizer.prompt(asked[g].prompt), y, keep)
                     for g, y, keep in zip(batch.group.tolist(), answers, batch.keep.tolist())]
            self._fit_filtered(drawn, r)
            right.append(quiz.right(quiz.ask(self), *kinds))
        stage.scores = quiz.scores(before, responses := quiz.ask(self))
        stage.samples = [s for s in quiz.samples(responses) if re.search(r"\d", s.asked)]
        stage.notes.append(
            f"kept by the checker, round by round: {', '.join(f'{100 * k:.0f} %' for k in kept_share)}")
        stage.curve = (list(range(len(right))), [100 * x for x in right], "round",
                       "held-out questions right (%)")
        stage.caption = ("Held-out chains and comparisons, answered greedily, "
                         "after each round of sampling and filtering.")
        self.finish(stage)

    def rates(self, lr: float, muon_lr: float) -> dict[str, float]:
        """The peaks for the course's own small models.

        A checkpoint from elsewhere is wider and takes AdamW's usual small step.
        """
        return {"lr": lr, "muon_lr": muon_lr} if self.tokenizer.own else {"lr": min(lr, 2e-4), "muon_lr": 0.0}

    def tune(self, quiz: Quiz) -> list[dict]:
        """The instruction tuning itself: batches of 64 questions with answers, fewer where they are long."""
        self.pairs = [q.pair(self.tokenizer) for q in quiz.training]
        length = sum(len(x) + len(y) for x, y in self.pairs) // len(self.pairs)
        rows = min(64, max(4, 4096 // length))

        def draw(step: int) -> Batch:
            return packed(random.Random(f"tune/{self.seed}/{step}").choices(self.pairs, k=rows))
        return train(self.model, draw, supervised.coefficient,
                     Settings(self.scale.tuning_steps, **self.rates(3e-3, 0.0075), decay=0.9),
                     label="   instruction tuning", progress=self.progress)

    def _fit_filtered(self, drawn: list[tuple], r: int) -> None:
        """A few steps on a round's answers, F = keep.

        A quarter of each batch is from the stage before, so that it is not forgotten.
        """
        known = [(x, y, True) for x, y in self.pairs]

        def draw(step: int) -> Batch:
            rng = random.Random(f"filtered/{self.seed}/{r}/{step}")
            rows = rng.choices(drawn, k=36) + rng.choices(known, k=12)
            batch = batch_pairs([(x, y) for x, y, _ in rows])
            batch.keep = torch.tensor([keep for *_, keep in rows])
            return batch
        train(self.model, draw, self_training.coefficient,
              Settings(25, **self.rates(5e-4, 0.002), decay=0.9), label=f"   round {r + 1}",
              progress=self.progress)

    def _generator(self, purpose: str, step: int, device="cpu") -> torch.Generator:
        return torch.Generator(device).manual_seed(
            random.Random(f"{purpose}/{self.seed}/{step}").getrandbits(62))


def travel_town(journey: Journey, start: str | None) -> None:
    """Every stage on the town; from a model that exists, the first two are left out."""
    journey.on_the_town = True
    documents, held, quiz = town_data(journey.scale.sums, journey.scale.questions, journey.rng)
    aside, _ = put_aside(asked(Town(TOWN), True, random.Random("held out")))
    # They choose a policy, and nothing else.
    quiz.held = [q for q in quiz.held if q.key not in {a.key for a in aside}]
    sums = Sums(TOWN)
    quiz.held += chains.held_out(sums)
    if start:
        journey.load(start)
    else:
        journey.tokens(documents, documents[:2000], journey.scale.config.vocab_size)
        encoded, end = journey.tokenizer.encode_all(documents), journey.tokenizer.end
        windows = partial(batch_windows, torch.tensor([i for d in encoded for i in (*d, end)]))
        journey.pretrain(windows, held, "the town", journey.scale.config.context, quiz, journey.scale.steps)
    journey.instruct(quiz)
    journey.self_train(quiz, sums)
    chains.travel_town(journey, quiz, sums.uneven(held=False))
    pipeline.travel_town(journey, Town(TOWN), quiz)
    tools.travel_town(journey, Town(TOWN), quiz, documents)


def own_windows(text: str, stop: int, tokenizer: Tokenizer, rows: int, length: int,
                generator: torch.Generator) -> Batch:
    """A batch as `batch_windows` gives it, from text[:stop] that is encoded where a window was drawn, and
    nowhere else.

    A window begins at a character, each as likely as any other, or rather at the first word behind it, since
    a cut within a word would make tokens that the whole text does not have. Where the text ends, the window
    goes on with an end token and the text's beginning. So all places are read equally often, by characters: a
    stretch whose tokens are long is read a little more often than if tokens were drawn, and a word a little
    more often behind a long word.
    """
    windows = []
    for start in torch.randint(stop, (rows,), generator=generator).tolist():
        ids: list[int] = []
        while len(ids) < length:
            part = text[start:min(stop, start + 8 * length)]  # enough, unless the text repeats itself
            word = re.search(r"(?<=\S)\s", part[:100]) if start and not ids else None
            start += len(part)
            ids += tokenizer.encode(part[word.start():] if word else part)
            if start == stop:
                ids.append(tokenizer.end)
                start = 0
        windows.append(ids[:length])
    batch = batch_pairs([(ids[:1], ids[1:]) for ids in windows])
    batch.divide_by = rows * (length - 1)
    return batch


def _parts(text: str, stop: int, size: int = 100_000, every: int | None = None) -> Iterator[str]:
    """text[:stop] in parts of `size` characters; or only such a part of each `every` characters."""
    return (text[i:min(i + size, stop)] for i in range(0, stop, every or size))


def travel_own(journey: Journey, text: str | None, rows: list[tuple[str, str]] | None,
               preferred: list[tuple[str, str, str]] | None, start: str | None,
               names: dict[str, str], task: list[tuple[str, Answer]] | None = None) -> None:
    """The learner's own text, then questions, then a task, then preferences. The last tenth of the text and a
    tenth of the others are held out.

    text is a str, or what `open_text` gives: it has the length and the slices of one, and is never read as a
    whole. All that can be wrong with the files is found before a model is trained.
    """
    length, source = 128, next(iter(names.values()))
    training: list[Question] = []
    asked: list[Question] = []
    if rows is not None or preferred is not None:
        journey.scale = replace(journey.scale, config=replace(journey.scale.config, context=512))
    if rows is not None:
        training, asked = _split(rows, journey.rng, names["qa"])
    if task is not None:
        answers = dict(task)
        unseen = _split([(q, shown(a)) for q, a in answers.items()],
                        random.Random(f"task/{journey.seed}"), names["task"])
    if start:
        journey.load(start)
        length = min(length, journey.model.config.context)
    # The questions, or the prompts, are all the text there is.
    if text is None and not (start and rows is None):
        text = "\n".join([f"{q.prompt}\n{q.response}\n" for q in training]
                         or [f"{prompt}\n{chosen}\n" for prompt, chosen, _ in preferred])
    context = journey.model.config.context if start else journey.scale.config.context
    if text is not None:
        cut = len(text) * 9 // 10
        held = text[cut:cut + 200_000]  # of a long text, enough is held out to score on
        if not any(part.strip() for part in _parts(text, cut)):
            raise BadFile(f"{source}: its first nine tenths are blank; give a text")
        if not start:
            some = list(_parts(text, cut, 10_000, max(10_000, cut // 20)))  # twenty places of a long text
            journey.tokens(_parts(text, cut), some, journey.scale.config.vocab_size, joined=True)
        n = 0
        for part in _parts(text, cut):
            n += len(journey.tokenizer.encode(part))
            if n >= length:
                break
        else:
            raise BadFile(f"{source}: nine tenths of it are {n} tokens and one context is {length}; "
                          "give a longer text, or one that repeats itself less")
    tokenizer = journey.tokenizer
    if rows is not None:
        training, asked = _fitting(training, asked, tokenizer, context, names["qa"])
    if task is not None:
        unseen = _fitting(*unseen, tokenizer, context, names["task"], chains.LEAST_ROOM)
    if preferred is not None:
        compared = pipeline.split(preferred, tokenizer, context,
                                  random.Random(f"preferences/{journey.seed}"), names["prefs"])
    if text is not None:
        windows = partial(own_windows, text, cut, tokenizer)
        journey.pretrain(windows, held, source, length, None, journey.scale.steps)
    if rows is not None:
        asked = asked[:64]
        journey.instruct(Quiz(training, asked, max_new_tokens=max(len(q.pair(tokenizer)[1]) for q in asked)))
    if task is not None:
        known = [q.pair(tokenizer) for q in training]
        chains.travel_own(journey, unseen[0], unseen[1][:100], answers, names["task"], known)
    if preferred is not None:
        pipeline.travel_own(journey, *compared, names["prefs"], imitated=rows is not None)


def _split(rows: list[tuple[str, str]], rng: random.Random,
           name: str) -> tuple[list[Question], list[Question]]:
    """(training, held out): a tenth is held out, and never a question that is also in training."""
    by_question: dict[str, list[Question]] = {}
    for i, (question, answer) in enumerate(rows):
        by_question.setdefault(question, []).append(
            Question("own", f"row {i + 1}", question, answer, answer, r"(?s).*"))
    if len(by_question) < 2:
        raise BadFile(
            f"{name}: {len(by_question)} different question; give at least two, since some are held out")
    groups = list(by_question.values())
    rng.shuffle(groups)
    n = max(1, len(groups) // 10)
    return [q for group in groups[n:] for q in group], [q for group in groups[:n] for q in group]


def _fitting(training: list[Question], asked: list[Question], tokenizer: Tokenizer, context: int,
             name: str, room: int = 0) -> tuple[list[Question], list[Question]]:
    """Those that fit the context, with so much room to spare; the rows of the others are named."""
    long = [q for q in training + asked if sum(map(len, q.pair(tokenizer))) + room > context]
    keys = {q.key for q in long}
    training, asked = [q for q in training if q.key not in keys], [q for q in asked if q.key not in keys]
    if not training or not asked:
        raise BadFile(f"{name}: of its questions with their answers {len(training)} to learn from and "
                      f"{len(asked)} held out fit a context of {context} tokens; give more short ones")
    if long:
        rows = sorted(int(q.key.removeprefix("row ")) for q in long)
        print(f"{len(long)} of {len(training) + len(asked) + len(long)} questions are longer, "
              f"with their answer, than the context of {context} tokens "
              f"and are left out: rows {numbers(rows)}")
    return training, asked
