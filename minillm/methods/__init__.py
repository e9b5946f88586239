"""One file for each F, and the table of them: who makes x, who makes y, and what F is. `ls` is the syllabus.

Each file begins with F and the loss on the quantities of its own paper. `coefficient(batch, logprobs)` below
them is F of a batch, as `train` takes it: unreduced, and with no gradient through it. A test holds the
gradient that it gives equal to the gradient of the loss. No method imports another.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One row of the table: who makes x, who makes y, and what F is. module: "" until it is here."""

    name: str
    x_from: str
    y_from: str
    F: str
    chapter: int
    module: str = ""


METHODS = (
    Method("pretraining, supervised fine-tuning", "data", "data", "1", 1, "supervised"),
    Method("curated data (LIMA, Humpback, Toolformer's filter)", "data", "data or a model",
           "1 if the curator keeps the pair, else 0", 1, "self_training"),
    Method("distillation", "data", "a teacher", "1 (sampled), or the teacher's probability (summed over y)",
           9, "distill"),
    Method("on-policy distillation", "data", "the model itself", "log q_teacher/p, per token", 9),
    Method("self-training: rejection sampling, STaR, expert iteration, best-of-n", "data",
           "the model itself", "1 if the filter keeps it, else 0", 1, "self_training"),
    Method("DAgger", "the model's own visits", "an expert's correction", "1", 1, "dagger"),
    Method("REINFORCE", "data", "the model itself", "R − b", 1, "reinforce"),
    Method("policy gradient with a critic", "the model's own visits", "the model itself", "Q(x,y), or A(x,y)",
           11, "critic"),
    Method("KL-regularised RL (RLHF's objective)", "data", "the model itself", "R − β log p/p_ref − b", 11,
           "reinforce"),
    Method("PPO", "data", "the model a moment ago", "ρ·A, and 0 where clipping stops it", 11, "ppo"),
    Method("GRPO, RLOO, Dr. GRPO", "data", "the model a moment ago, in groups",
           "ρ·(R − group mean)/(group std), with its clip and its KL term", 11, "grpo"),
    Method("reward model (Bradley–Terry; K-wise)", "several answers", "a person's choice",
           "1: it is supervised learning of p(chosen beats rejected) = σ(r_w − r_l)", 10, "reward_model"),
    Method("DPO", "data", "a comparison: chosen, rejected",
           "+β·σ(−βh) on the chosen, −β·σ(−βh) on the rejected", 13, "dpo"),
    Method("IPO", "data", "a comparison", "±2·(1/(2β) − h)", 13, "ipo"),
    Method("SimPO", "data", "a comparison", "±β/|y|·σ(γ − βΔ), without a reference", 13, "simpo"),
    Method("KTO", "data", "one answer, thumbs up or down",
           "+λ_D·β·σ'(·) or −λ_U·β·σ'(·), with its reference point held fixed", 13, "kto"),
    Method("unlikelihood, negative feedback", "data", "data or the model", "−1 on what is wrong", 14),
    Method("chain of thought, trained by outcome", "data", "(scratchpad, answer) by the model",
           "1 if the answer is right (minus a baseline)", 15, "grpo"),
    Method("tool use", "data and the tool's replies", "the model; a tool writes some tokens",
           "as its method, and 0 on the tokens that the tool wrote", 17, "supervised"),
)


def table() -> str:
    """The table of methods in Markdown, as the README prints it."""
    rows = ["| method | x from | y from | F on ∇ log p(y\\|x) | in the package | chapter |",
            "|---|---|---|---|---|---|"]
    for m in METHODS:
        module = f"`methods/{m.module}.py`" if m.module else "to come"
        F = m.F.replace("|", "\\|")
        rows.append(f"| {m.name} | {m.x_from} | {m.y_from} | {F} | {module} | {m.chapter} |")
    return "\n".join(rows)
