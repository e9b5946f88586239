"""Training and generation beside transformers' Llama, and the cost of a token as the context grows.

Shapes are the same, all weights are random, and both sides start from the same ones.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from minillm import hub
from minillm.batch import batch_windows
from minillm.engine import products
from minillm.methods.supervised import coefficient
from minillm.sample import sample
from minillm.thinking import tree
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer
from minillm.worlds import countdown

from .pairs import Results, Row, in_turn, need_transformers, number, seconds

SHAPES = {"4 × 128": Config(d_model=128, n_layers=4, n_heads=4, n_kv_heads=2, d_ff=352, context=768),
          "6 × 384": Config(d_model=384, n_layers=6, n_heads=6, n_kv_heads=2, d_ff=1024, context=768)}
PROMPT, NEW = 32, 96
LENGTHS = (32, 64, 128, 256, 512)


def policy_of(config: Config) -> Transformer:
    """Random weights five times as wide as the first ones are:
    with those, greedy answers repeat one token."""
    model = Transformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight *= 5
    return model.eval()


def llama_of(model: Transformer):
    """transformers' Llama with the same weights, by way of the files that `hub.save` writes."""
    transformers = need_transformers()
    with tempfile.TemporaryDirectory() as folder:
        hub.save(model, hub.load("base")[1], folder)
        return transformers.LlamaForCausalLM.from_pretrained(
            folder, attn_implementation="sdpa", dtype=torch.float32).eval()


def random_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Ids (rows, length) of the course's vocabulary; 0, the end, is not among them."""
    return torch.randint(1, 512, (rows, length), generator=torch.Generator().manual_seed(seed))


def our_training(config: Config, rows: int, length: int, steps: int,
                 bf16: bool = False) -> Callable[[], float]:
    """A run of the package's own loop, AdamW alone: () -> tokens a second."""
    model, ids = Transformer(config), random_ids(1, 100_000)[0]

    def run() -> float:
        generator = torch.Generator().manual_seed(0)
        settings = Settings(steps=steps, lr=1e-3, muon_lr=0)
        return steps * rows * length / seconds(
            lambda: train(model, lambda step: batch_windows(ids, rows, length, generator),
                          coefficient, settings, progress=False, bf16=bf16))
    return run


def their_training(config: Config, rows: int, length: int, steps: int,
                   bf16: bool = False) -> Callable[[], float]:
    """The same steps in a plain loop around transformers' Llama: () -> tokens a second."""
    model, ids = llama_of(Transformer(config)), random_ids(1, 100_000)[0]

    def run() -> float:
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
        model.train()

        def work():
            for _ in range(steps):
                tokens = batch_windows(ids, rows, length, generator).tokens
                model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return steps * rows * length / seconds(work)
    return run


def plainly(run: Callable[[], object]) -> Callable[[], object]:
    """The same run without oneDNN's private product: what MINILLM_PRODUCTS=plain does to a whole process."""
    def without():
        before, products.WIDE = products.WIDE, False
        try:
            return run()
        finally:
            products.WIDE = before
    return without


def training(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Tokens a second of AdamW on 2,048 tokens a step:
    float32 beside transformers, and bfloat16 beside float32."""
    rows, length = 8, 256
    for name, steps in (("4 × 128", 8), ("6 × 384", 2)):
        config = SHAPES[name]
        sides = {"ours": our_training(config, rows, length, steps),
                 "theirs": their_training(config, rows, length, steps)}
        if products.WIDE:
            sides["plain"] = plainly(our_training(config, rows, length, steps))
        if name == "6 × 384":
            sides["ours, bf16"] = our_training(config, rows, length, steps, bf16=True)
            sides["theirs, bf16"] = their_training(config, rows, length, steps, bf16=True)
        measured = in_turn(sides, repeats, tick)
        shape = f"{config.n_layers} layers × {config.d_model}"
        loop = f"{shape}, {steps} steps of {rows} × {length} tokens, AdamW"
        results.rows.append(
            Row("training", f"training, {name}, float32", "tokens/s", measured["ours"], measured["theirs"],
                (f"minillm.train, {loop}",
                 "LlamaForCausalLM with sdpa in a plain loop, the same batches, weights and AdamW"),
                1.0))
        if products.WIDE:
            results.rows.append(
                Row("training", f"training, {name}, float32, plain products", "tokens/s", measured["plain"],
                    measured["theirs"], (f"minillm.train, {loop}, MINILLM_PRODUCTS=plain", "as above"), 1.0))
        if name == "6 × 384":
            theirs = number(sorted(measured["theirs, bf16"])[repeats // 2])
            results.rows.append(Row("training", f"training, {name}, bf16 over float32", "tokens/s",
                                    measured["ours, bf16"], measured["ours"],
                                    (f"minillm.train with bf16=True, {loop}", "minillm.train in float32"),
                                    1.5, note=f"transformers under the same autocast: {theirs} tokens/s."))


def our_generation(model: Transformer, prompts: list[list[int]], n: int, temperature: float,
                   new: int = NEW) -> Callable[[], object]:
    """() -> Batch: `sample` to the last token, the end never reached."""
    return lambda: sample(model, prompts, new, n=n, temperature=temperature, end=None,
                          generator=torch.Generator().manual_seed(0))


def their_generation(model, prompts: list[list[int]], n: int, temperature: float, cache: str | None,
                     new: int = NEW) -> Callable[[], object]:
    """() -> ids: `generate` to the last token, no end token, all of the vocabulary,
    with a dynamic or a static cache."""
    ids = torch.tensor(prompts)
    how = {"do_sample": False, "num_return_sequences": n} if temperature == 0 else \
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, "num_return_sequences": n}
    if cache:
        how["cache_implementation"] = cache
    model.generation_config.eos_token_id = None
    return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new,
                                  pad_token_id=0, use_cache=True, **how)


def faster_cache(model, prompts: list[list[int]], n: int, temperature: float,
                 tick: Callable[[], None]) -> str | None:
    """None (dynamic) or "static": which of transformers' caches was faster in the better of two runs,
    after one to warm up."""
    best = {}
    for cache in (None, "static"):
        run = their_generation(model, prompts, n, temperature, cache)
        run()
        best[cache] = min(seconds(run) for _ in range(2))
        tick()
    return min(best, key=best.get)


def generation(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """New tokens a second, prompt 32 + 96 new:
    greedy at batch 1 and 64, and 8 sampled answers to each of 8 prompts."""
    for name, config in SHAPES.items():
        model = policy_of(config)
        llama = llama_of(model)
        goals = {"4 × 128": (2.3, 1.45), "6 × 384": (1.3, 1.3)}[name]
        for what, rows, n, temperature, goal in (
            ("batch 1", 1, 1, 0.0, goals[0]),
            ("batch 64", 64, 1, 0.0, goals[1]),
            ("8 prompts × 8 answers", 8, 8, 1.0, 1.5)):
            prompts = random_ids(rows, PROMPT).tolist()
            cache = faster_cache(llama, prompts, n, temperature, tick)
            ours = our_generation(model, prompts, n, temperature)
            theirs = their_generation(llama, prompts, n, temperature, cache)
            note = ""
            if temperature == 0:
                same = (ours().tokens == theirs()).all(1)
                note = f"{int(same.sum())} of {rows} rows came out the same to the last token."
            many = 4 if rows == 1 else 1  # a short run is repeated within one measurement
            new = rows * n * NEW * many
            sides = {"ours": lambda: new / seconds(lambda: [ours() for _ in range(many)]),
                     "theirs": lambda: new / seconds(lambda: [theirs() for _ in range(many)])}
            if products.WIDE and rows > 1:
                sides["plain"] = plainly(sides["ours"])
            measured = in_turn(sides, repeats, tick)
            drawn = "greedy" if temperature == 0 else "sampled at temperature 1"
            results.rows.append(Row("generation", f"generation, {name}, {what}", "new tokens/s",
                                    measured["ours"], measured["theirs"],
                                    (f"sample, {drawn}, with the log-probs of what was drawn",
                                     f"generate, {drawn}, sdpa, {cache or 'dynamic'} cache"),
                                    goal, note=note))
            if "plain" in measured:
                results.rows.append(Row("generation", f"generation, {name}, {what}, plain products",
                                        "new tokens/s", measured["plain"], measured["theirs"],
                                        (f"sample, {drawn}, MINILLM_PRODUCTS=plain", "as above"), 1.0))


def context(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Milliseconds a new token at batch 1 as the context grows:
    65 new tokens less 1, after prompts of 32 to 512."""
    sides: dict[str, Callable[[], float]] = {}
    for name, config in SHAPES.items():
        model = policy_of(config)
        makers = {f"minillm {name}": lambda ids, new, m=model: our_generation(m, ids, 1, 0.0, new)}
        if name == "4 × 128":
            llama = llama_of(model)
            makers[f"transformers {name}"] = (
                lambda ids, new, m=llama: their_generation(m, ids, 1, 0.0, None, new))
        for label, make in makers.items():
            for length in LENGTHS:
                ids = random_ids(1, length).tolist()
                long, short = make(ids, 65), make(ids, 1)
                sides[f"{label}|{length}"] = (
                    lambda long=long, short=short: (seconds(long) - seconds(short)) / 64 * 1000)
    measured = in_turn(sides, max(repeats, 9), tick)
    labels = list(dict.fromkeys(key.split("|")[0] for key in measured))
    results.curves = [{"label": label,
                       "lengths": list(LENGTHS),
                       "milliseconds": [measured[f"{label}|{length}"] for length in LENGTHS]}
                      for label in labels]
    for name in SHAPES:
        label = f"minillm {name}"
        results.rows.append(Row("context", f"a new token after 512 over after 32, {name}", "ms",
                                measured[f"{label}|512"], measured[f"{label}|32"],
                                ("after a prompt of 512, batch 1", "minillm after a prompt of 32"), 1.5,
                                at_least=False))


def tree_of_thoughts(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Tokens a second of proposals: 8 steps from each of 40 states, in one batch and a call for each."""
    model, tokenizer = hub.load("player")
    hands = countdown.hands(True)[:40]
    states = [(puzzle.prompt, "") for puzzle in hands]

    def written(calls: list[list[tree.Thought]]) -> float:
        propose = tree.proposer(model, tokenizer, n=8, room=30, stop=countdown.STOP,
                                generator=torch.Generator().manual_seed(0))
        children: list[tree.Child] = []
        took = seconds(lambda: children.extend(c for call in calls for some in propose(call) for c in some))
        return sum(child.tokens for child in children) / took

    sides = {"ours": lambda: written([states]), "theirs": lambda: written([[state] for state in states])}
    measured = in_turn(sides, repeats, tick)
    results.rows.append(Row("tree", "a tree's proposals, 40 states", "tokens/s", measured["ours"],
                            measured["theirs"], ("tree.proposer, all states of a level in one batch",
                                                 "tree.proposer, one call a state"), 2.0))


def draw_curves(results: Results, folder: Path) -> None:
    """cost_per_token.png: the median of each model, a band over the middle half of its measurements."""
    from statistics import quantiles

    from minillm.show.figures import Picture, new_figure
    figure, axes = new_figure(7, 4)
    top = 0.0
    for curve, marker in zip(results.curves, "osD^"):
        low, middle, high = zip(*(quantiles(values, n=4) for values in curve["milliseconds"]))
        drawn, = axes.plot(curve["lengths"], middle, marker=marker)
        axes.fill_between(curve["lengths"], low, high, alpha=0.2, linewidth=0, color=drawn.get_color())
        axes.annotate(curve["label"], (curve["lengths"][-1], middle[-1]), xytext=(-4, 8),
                      textcoords="offset points", ha="right", color=drawn.get_color())
        top = max(top, *middle)
    axes.set(xlabel="tokens in the context", ylabel="milliseconds a new token", xscale="log",
             ylim=(0, 1.25 * top))
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.minorticks_off()
    beside = folder / "cost_per_token.part"
    beside.write_bytes(Picture(figure, "cost of a new token").png)
    os.replace(beside, folder / "cost_per_token.png")
