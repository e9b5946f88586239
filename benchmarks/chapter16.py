"""Chapter 16's runs on the game of 24: chains and trees at equal tokens, who proposes, who judges, rewards.

It takes about 25 minutes a seed on one core and writes benchmarks/results/chapter16.json:

    python -m benchmarks.chapter16                              # what is not kept yet, of all seeds
    python -m benchmarks.chapter16 --seeds 20 --parts ways --again

A player reads other people's games (one in ten of them ends at 24) and an exact solver's verdicts on numbers
left. A novice reads games alone. Settings were chosen on seeds 0 and 1; the seeds here chose nothing. The
models are kept in build/chapter16, and made again where they are not there; seed 20's player is the one that
comes with the course: `--ship` writes it to minillm/checkpoints/player.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from minillm import hub
from minillm.batch import batch_packed
from minillm.methods import grpo, ppo, supervised
from minillm.thinking import scratchpad, steps, tree, vote
from minillm.thinking.scratchpad import think
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer
from minillm.worlds import countdown
from minillm.worlds.countdown import Puzzle, hands, shuffled

from .parts import command, run_missing
from minillm.worlds.questions import Question

RESULTS = Path(__file__).parent / "results" / "chapter16.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter16"
SEEDS = (20, 21, 22)
SHAPE = Config(vocab_size=512, d_model=128, n_layers=3, n_heads=4, n_kv_heads=4, d_ff=256, context=128)
RATES = {"lr": 3e-3, "muon_lr": 0.02}
PLAYER = {"steps": 1000, "weak": 400, "games": (0.1, 0.5), "verdicts": 0.4}     # solved, any; the solver's
NOVICE = {"steps": 500, "games": (0.3, 0.7), "verdicts": 0.0}
TOKENS, ROW = 3600, 128                         # of a batch, and of one of its rows
TESTED = 100                                    # held-out hands
CHAINS, PROPOSED = 24, 8                        # a hand; a node
ROOM, REST = 80, 64                             # tokens of a chain; of what follows its first steps
STAR = {"steps": 80, "rates": {"lr": 1e-3, "muon_lr": 5e-3}}
DRAWS, ASKED = 24, {"asked": 16, "n": 8}        # of learning from rewards, draw by draw
CLIMB = {"lr": 5e-4, "muon_lr": 1e-3, "warmup": 0.0, "decay": 0.3}
WORTH = {"yes": 1.0, "no": 0.0}
_, TOKENIZER = hub.load("base")
LIVE, KEPT_BACK = hands(False), hands(True)


@cache
def alive(left: tuple) -> bool:
    """Exactly."""
    return countdown.alive(Puzzle((1, 1)), left)


# --- what they read -------------------------------------------------------------------------------


@cache
def solutions(puzzle: Puzzle) -> list[tuple]:
    """Those with the fewest fractions."""
    every = countdown.solve(puzzle)
    fewest = min(map(countdown._fractions, every))
    return [taken for taken in every if countdown._fractions(taken) == fewest]


def solved_game(puzzle: Puzzle, rng: random.Random) -> Question:
    """A game that ends at 24."""
    taken = rng.choice(solutions(puzzle))
    said, chain = countdown.expression(taken, 24), countdown.chain(puzzle, taken)
    return Question("24", puzzle.key, shuffled(puzzle, rng).prompt, said, said, "", chain)


def any_game(puzzle: Puzzle, rng: random.Random) -> Question:
    """A game by somebody who does not look ahead."""
    return countdown.play(shuffled(puzzle, rng), rng)


def some_left(puzzle: Puzzle, rng: random.Random, want: bool | None = None, levels=(1, 1, 2, 2, 2)) -> tuple:
    """The numbers left after one or two steps, alive or dead as wanted, where that comes up soon enough."""
    level = rng.choice(levels)
    for _ in range(40):
        left = tuple(sorted(puzzle.numbers))
        for _ in range(level):
            left = countdown.after(left, rng.choice(countdown.steps(left, whole=True)))
        if want is None or alive(left) == want:
            break
    return left


def verdict(puzzle: Puzzle, rng: random.Random) -> Question:
    """What the solver says of some numbers left: "4 6 6: 24?", "no". Half of them are alive."""
    return countdown.judging(puzzle, some_left(puzzle, rng, rng.random() < 0.5))


def reading(kind: dict, seed: int, n: int = 5000) -> Callable[[int], object]:
    """A draw of packed rows: games and verdicts in their shares."""
    rng = random.Random(f"reading/{seed}")
    makers = [(solved_game, n, kind["games"][0]), (any_game, n, kind["games"][1]),
              (verdict, 4 * n, kind["verdicts"])]
    pools = [[make(rng.choice(LIVE), rng).pair(TOKENIZER) for _ in range(size)]
             for make, size, share in makers if share]
    shares = [share for *_, share in makers if share]

    def draw(step: int):
        rng, pairs, room = random.Random(f"{seed}/{step}"), [], TOKENS
        while room > 0:
            pairs.append(rng.choice(rng.choices(pools, shares)[0]))
            room -= len(pairs[-1][0]) + len(pairs[-1][1])
        return batch_packed([[pair] for pair in pairs], ROW)

    return draw


def models(seed: int, *names: str) -> dict[str, Transformer]:
    """player, weak (the same after fewer steps), novice: those that are named, kept or made now."""
    made = {}
    for name in names:
        if (MODELS / f"{name}{seed}" / "model.safetensors").is_file():
            made[name], _ = hub.load(MODELS / f"{name}{seed}")
    if {"weak", "player"} & set(names) - set(made):
        player, draw = Transformer(SHAPE, seed), reading(PLAYER, seed)

        def watched(step: int):
            if step == PLAYER["weak"]:
                made["weak"] = copy.deepcopy(player)
            return draw(step)

        train(player, watched, supervised.coefficient, Settings(PLAYER["steps"], **RATES),
              label=f"player {seed}")
        made["player"] = player
    if "novice" in names and "novice" not in made:
        made["novice"] = Transformer(SHAPE, seed)
        train(made["novice"], reading(NOVICE, seed), supervised.coefficient,
              Settings(NOVICE["steps"], **RATES), label=f"novice {seed}")
    for name, model in made.items():
        hub.save(model, TOKENIZER, MODELS / f"{name}{seed}")
    return made


# --- chains and trees -----------------------------------------------------------------------------


def tested(seed: int, n: int = TESTED) -> list[Puzzle]:
    """Held-out hands."""
    rng = random.Random(f"tested/{seed}")
    return [shuffled(p, rng) for p in rng.sample(KEPT_BACK, n)]


def asked(puzzles: list[Puzzle]) -> list[Question]:
    """The hands as questions; nobody knows the answer."""
    return [Question("24", p.key, p.prompt, "", "", "", "") for p in puzzles]


def checked(state: tree.Thought) -> countdown.Checked:
    """What the scratchpad of a state holds."""
    return countdown.check(countdown.read_prompt(state[0]), state[1])


def solved(state: tree.Thought) -> bool:
    """Whether it ends at 24, by right steps."""
    return checked(state).solved


def left_says(state: tree.Thought) -> str | None:
    """How a judge is asked of a state: by the numbers that stand in its last brackets, right or not."""
    left = state[1].rpartition("[")[2].strip(" ]")
    return f"{left}: 24?" if left and (" " in left or left == "24") else None


def own_judge(model) -> tree.Value:
    """A model that is asked "4 6 6: 24?"."""
    return tree.judge(model, TOKENIZER, left_says, WORTH)


def exact_judge(states: list) -> list[float]:
    """The solver."""
    found = [checked(state) for state in states]
    return [float(c.wrong is None and alive(c.left)) for c in found]


def coin(states: list) -> list[float]:
    """A judge that knows nothing."""
    return [random.Random(str(state)).random() for state in states]


def refereed(propose: tree.Propose) -> tree.Propose:
    """Proposals against the rules are no steps: a program sees it."""
    return lambda states: [[child if child.state is None or checked(child.state).wrong is None
                            else child._replace(state=None) for child in children]
                           for children in propose(states)]


def search(proposer, judge: tree.Value, puzzles: list[Puzzle], beam: int, seed: int, referee: bool = False,
           n: int = PROPOSED) -> dict:
    """solved: 0 or 1 for each hand; tokens: of each tree."""
    propose = tree.proposer(proposer, TOKENIZER, n=n, room=30, stop=countdown.STOP,
                            generator=torch.Generator().manual_seed(seed))
    trees = tree.breadth_first([(p.prompt, "") for p in puzzles], refereed(propose) if referee else propose,
                               judge, solved, beam=beam, depth=3)
    wrong = [checked(node.state).wrong is not None for t in trees for node in t.nodes[1:] if node.kept]
    return {"solved": [int(t.best() is not None) for t in trees], "tokens": [t.tokens for t in trees],
            "kept against the rules": sum(wrong) / max(1, len(wrong))}


def middle_of(puzzle: Puzzle, response) -> list[tree.Thought]:
    """The states of a chain after its first and its second step."""
    return [(puzzle.prompt, z) for z in steps.begun(response.thought or "", countdown.STOP)[1:3]]


def ways(seed: int) -> dict:
    """Greedy, one chain, votes, best-of-n and trees: solved hands and tokens of each."""
    puzzles, kept = tested(seed), {}
    player = models(seed, "player")["player"]
    greedy = think(player, TOKENIZER, asked(puzzles), ROOM)
    length = [len(TOKENIZER.response(y.text, y.thought)) for y in greedy]
    kept["greedy"] = {"solved": [int(solved((p.prompt, y.thought or ""))) for p, y in zip(puzzles, greedy)],
                      "tokens": length}
    drawn = think(player, TOKENIZER, asked(puzzles), ROOM, n=CHAINS, temperature=1.0,
                  generator=torch.Generator().manual_seed(seed))
    judge = own_judge(player)
    kept["chains"] = {"solved": [], "tokens": [], "answers": [], "judge": [], "dead after": [], "legal": []}
    for i, puzzle in enumerate(puzzles):
        chains = drawn[i * CHAINS:(i + 1) * CHAINS]
        states = [middle_of(puzzle, y) for y in chains]
        flat = iter(judge([state for row in states for state in row]))
        scores = [vote.chain_score([next(flat).value for _ in row]) if row else 0.0 for row in states]
        found = [countdown.check(puzzle, y.thought or "") for y in chains]
        kept["chains"]["solved"].append([int(f.solved) for f in found])
        kept["chains"]["legal"].append([int(f.wrong is None) for f in found])
        kept["chains"]["tokens"].append([len(TOKENIZER.response(y.text, y.thought)) for y in chains])
        kept["chains"]["answers"].append([y.text for y in chains])
        kept["chains"]["judge"].append([round(s, 4) for s in scores])
        died = [countdown.died(puzzle, y.thought or "") for y in chains]
        kept["chains"]["dead after"].append([-1 if d is None else d for d in died])
    for beam in (1, 2, 5):
        kept[f"tree, own judge, beam {beam}"] = search(player, judge, puzzles, beam, seed)
    kept["tree, own judge and a referee, beam 5"] = search(player, judge, puzzles, 5, seed, referee=True)
    kept["tree, a coin, beam 5"] = search(player, coin, puzzles, 5, seed)
    kept["tree, likelihood, beam 5"] = search(player, tree.likelihood(player, TOKENIZER), puzzles, 5, seed)
    for beam in (1, 5):
        kept[f"tree, solver, beam {beam}"] = search(player, exact_judge, puzzles, beam, seed)
    return kept


def swap(seed: int) -> dict:
    """Weak and strong as proposer and as judge: beam 5."""
    made, puzzles = models(seed, "player", "weak"), tested(seed)
    return {f"{who} proposes, {judge} judges": search(made[who], own_judge(made[judge]), puzzles, 5, seed)
            for who in ("weak", "player") for judge in ("weak", "player")}


def states_left(seed: int, count: int, n: int = 100) -> dict[bool, list[tuple]]:
    """Numbers left of held-out hands, so many of them: n alive and n dead."""
    rng, found = random.Random(f"left/{seed}/{count}"), {True: [], False: []}
    while min(map(len, found.values())) < n:
        left = some_left(rng.choice(KEPT_BACK), rng, levels=(4 - count,))
        if len(found[alive(left)]) < n:
            found[alive(left)].append(left)
    return found


def judged_right(model, lefts: dict[bool, list[tuple]]) -> dict:
    """How a judge does on as many alive as dead: right (chance 0.5), and the chance to order a pair right."""
    judge = tree.judge(model, TOKENIZER, lambda left: f"{countdown._listed(left)}: 24?", WORTH)
    said = {what: [v.value for v in judge(some)] for what, some in lefts.items()}
    right = [v > 0.5 for v in said[True]] + [v <= 0.5 for v in said[False]]
    ordered = [(a > b) + (a == b) / 2 for a in said[True] for b in said[False]]
    return {"right": sum(right) / len(right), "ordered": sum(ordered) / len(ordered)}


def checking(seed: int) -> dict:
    """The same model asked whether numbers left can make 24, and asked to make it."""
    made, kept = models(seed, "player", "weak"), {}
    for name in ("weak", "player"):
        for count in (3, 2):
            lefts = states_left(seed, count)
            kept[f"{name}, {count} left"] = judged_right(made[name], lefts) | {
                "made": making(made[name], seed, count)}
    return kept


def making(model, seed: int, count: int, n: int = 100) -> dict:
    """From states that are alive, of hands that led there: how often it makes 24, greedily and drawn."""
    rng, states = random.Random(f"making/{seed}/{count}"), []
    while len(states) < n:
        puzzle = shuffled(rng.choice(KEPT_BACK), rng)
        left, taken = tuple(sorted(puzzle.numbers)), []
        for _ in range(4 - count):
            taken.append(rng.choice(countdown.steps(left, whole=True)))
            left = countdown.after(left, taken[-1])
        if alive(left):
            states.append((puzzle.prompt, countdown.chain(puzzle, taken)))
    questions = asked([countdown.read_prompt(x) for x, _ in states])
    greedy = think(model, TOKENIZER, questions, REST, thoughts=[z for _, z in states], close=False)
    ends = partial(steps.continued, model, TOKENIZER, ends_right, room=REST)
    drawn = ends(n=8, generator=torch.Generator().manual_seed(seed))(states)
    return {"greedy": sum(ends_right(x, y) for (x, _), y in zip(states, greedy)) / n, "drawn": sum(drawn) / n}


def ends_right(prompt: str, response) -> bool:
    """An outcome: the scratchpad holds right steps and ends at 24."""
    return response.ended and solved((prompt, response.thought or ""))


# --- rewards for outcomes and for steps -----------------------------------------------------------


def right(question: Question, response) -> bool:
    """For a draw."""
    return ends_right(question.prompt, response)


def skill(model, seed: int) -> dict:
    """Of held-out hands: solved greedily, by a drawn chain, by one of 16; of drawn chains: which keep the
    rules, and are alive after their first step."""
    puzzles = tested(seed)
    greedy = think(model, TOKENIZER, asked(puzzles), ROOM)
    drawn = think(model, TOKENIZER, asked(puzzles), ROOM, n=16, temperature=1.0,
                  generator=torch.Generator().manual_seed(seed))
    found = [countdown.check(puzzles[i // 16], y.thought or "") for i, y in enumerate(drawn)]
    marks = [f.solved for f in found]
    left = [tuple(sorted(p.numbers)) for p in puzzles for _ in range(16)]
    alive_first = [bool(f.taken) and alive(countdown.after(numbers, f.taken[0]))
                   for f, numbers in zip(found, left)]
    return {"greedy": sum(ends_right(p.prompt, y) for p, y in zip(puzzles, greedy)) / len(puzzles),
            "drawn": sum(marks) / len(marks),
            "one of 16": sum(any(marks[i:i + 16]) for i in range(0, len(marks), 16)) / len(puzzles),
            "legal": sum(f.wrong is None for f in found) / len(found),
            "alive after the first step": sum(alive_first) / len(alive_first)}


@cache
def own_games(seed: int, n: int = 8) -> list[tuple[Puzzle, object]]:
    """The novice plays every training hand n times: (a hand, its chain and answer) of each game."""
    rng, novice = random.Random(f"own games/{seed}"), models(seed, "novice")["novice"]
    puzzles = [shuffled(p, rng) for p in LIVE]
    drawn = think(novice, TOKENIZER, asked(puzzles), ROOM, n=n, temperature=1.0,
                  generator=torch.Generator().manual_seed(seed + 1))
    return [(puzzles[i // n], y) for i, y in enumerate(drawn)]


def endings(seed: int) -> dict[str, list[tuple[list[int], list[int]]]]:
    """Two lessons for a judge on the same states, which come from the novice's own games: labels by outcomes
    (did this game end right?) and by the solver. No solver is needed for the first."""
    lessons: dict[str, list] = {"outcomes": [], "solver": []}
    for puzzle, y in own_games(seed):
        won = ends_right(puzzle.prompt, y)
        for state in middle_of(puzzle, y):
            x = left_says(state)
            if x is not None:
                for name, yes in (("outcomes", won), ("solver", exact_judge([state])[0])):
                    lessons[name].append((TOKENIZER.prompt(x), TOKENIZER.response("yes" if yes else "no")))
    return lessons


def process(seed: int) -> dict:
    """A judge of states learned from outcomes of continuations, beside one that learned from the solver."""
    novice, kept = models(seed, "novice")["novice"], {}
    lefts = {count: states_left(seed, count) for count in (3, 2)}
    puzzles = tested(seed)
    for name, pairs in endings(seed).items():
        judge = taught(novice, pairs, seed)
        hub.save(judge, TOKENIZER, MODELS / f"{name}{seed}")
        kept[name] = {f"{count} left": judged_right(judge, lefts[count]) for count in lefts}
        kept[name]["lessons"] = len(pairs)
        kept[name]["tree, beam 5"] = search(novice, own_judge(judge), puzzles, 5, seed)
        kept[name]["tree, beam 1"] = search(novice, own_judge(judge), puzzles, 1, seed)
    kept["a coin"] = {"tree, beam 5": search(novice, coin, puzzles, 5, seed),
                      "tree, beam 1": search(novice, coin, puzzles, 1, seed)}
    return kept


def taught(model, pairs: list, seed: int, n: int = 200):
    """A copy that has learned to judge."""
    judge = copy.deepcopy(model)

    def draw(step: int):
        rng = random.Random(f"taught/{seed}/{step}")
        return batch_packed([[pair] for pair in rng.choices(pairs, k=100)], ROW)

    train(judge, draw, supervised.coefficient, Settings(n, **RATES), label="judge")
    return judge


def rewards(seed: int) -> dict:
    """From the novice: more games to read; its own solved games; outcomes; rewards for steps by a judge."""
    novice = models(seed, "novice")["novice"]
    questions = asked([shuffled(p, random.Random(f"asked/{seed}/{i}")) for i, p in enumerate(LIVE)])
    kept = {"before": skill(novice, seed)}
    how = ASKED | {"right": right, "seed": seed}
    judge = own_judge(hub.load(MODELS / f"outcomes{seed}")[0])

    def learned(name: str, make, F, settings):
        model, begun = copy.deepcopy(novice), time.perf_counter()
        train(model, make(model), F, settings, label=f"{name} {seed}")
        kept[name] = skill(model, seed) | {"seconds": round(time.perf_counter() - begun)}

    # One round of STaR: the games that ended at 24, F = 1. All others: F = 0.
    won = [(TOKENIZER.prompt(puzzle.prompt), TOKENIZER.response(y.text, y.thought))
           for puzzle, y in own_games(seed) if ends_right(puzzle.prompt, y)]
    written = sum(len(TOKENIZER.response(y.text, y.thought)) for _, y in own_games(seed))

    def again(model):
        return lambda step: batch_packed([[pair] for pair in random.Random(f"won/{seed}/{step}").choices(
            won, k=TOKENS // 70)], ROW)

    learned("own solved games", again, supervised.coefficient, Settings(STAR["steps"], **STAR["rates"]))
    kept["own solved games"] |= {"games": len(own_games(seed)), "solved": len(won)}
    # As much work: what is written costs a pass a token, what is learned from three.
    more = STAR["steps"] + round(written / (3 * TOKENS))
    learned("more games", lambda model: reading(NOVICE, seed + 1000), supervised.coefficient,
            Settings(more, **STAR["rates"]))
    kept["more games"]["steps"] = more

    def outcomes(model):
        return scratchpad.outcomes(model, TOKENIZER, questions, ROOM, divide=False, **how)

    climb = Settings(DRAWS, **CLIMB)
    learned("outcomes", outcomes, partial(grpo.coefficient, average=None), climb)
    start = kept["before"]["drawn"]
    for name, value in (("steps, judge", judge), ("steps, judge and referee", with_referee(judge))):
        learned(name, lambda model: steps.judged(model, TOKENIZER, questions, or_root(value, start), ROOM,
                                                 stop=countdown.STOP, **how), ppo.coefficient, climb)
    return kept


def or_root(value: tree.Value, worth: float) -> tree.Value:
    """The same, and a hand of which nothing has been taken is worth a fixed number: a baseline."""
    def valued(states: list) -> list[float]:
        return [getattr(v, "value", v) if state[1] else worth for state, v in zip(states, value(states))]

    return valued


def with_referee(value: tree.Value) -> tree.Value:
    """The same, and a scratchpad with a wrong step is worth nothing."""
    def valued(states: list) -> list[float]:
        return [getattr(v, "value", v) * (checked(state).wrong is None)
                for state, v in zip(states, value(states))]

    return valued


PARTS = {part.__name__: part for part in (ways, swap, checking, process, rewards)}


def ship(kept: dict) -> None:
    """The first seed's player, into the package, with what it reached."""
    folder, chains = hub.SHIPPED["player"], kept["ways"]["chains"]
    hub.save(models(SEEDS[0], "player")["player"], TOKENIZER, folder)
    scores = {"what": "plays the game of 24 and judges numbers left: python -m benchmarks.chapter16 --ship",
              "seed": SEEDS[0], "trained": PLAYER, "held-out hands": TESTED,
              "greedy": sum(kept["ways"]["greedy"]["solved"]) / TESTED,
              "one chain": sum(map(sum, chains["solved"])) / TESTED / CHAINS,
              "tree, own judge, beam 5": sum(kept["ways"]["tree, own judge, beam 5"]["solved"]) / TESTED,
              "judges right": {left: kept["checking"][f"player, {left}"]["right"]
                               for left in ("3 left", "2 left")}}
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    parser = command(__doc__, RESULTS, SEEDS, PARTS)
    parser.add_argument("--ship", action="store_true", help="write seed 20's player into the package, end")
    chosen = parser.parse_args()
    if chosen.ship:
        ship(json.loads(chosen.out.read_text(encoding="utf-8"))["seeds"][str(SEEDS[0])])
        return
    settings = {"player": PLAYER, "novice": NOVICE, "rates": RATES, "star": STAR, "draws": DRAWS,
                "asked": ASKED, "climb": CLIMB, "shape": vars(SHAPE) | {"family": None}}
    run_missing(chosen, PARTS, settings)


if __name__ == "__main__":
    main()
