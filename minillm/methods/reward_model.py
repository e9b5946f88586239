"""Reward model: several answers, a person's choice, F = 1 on ∇ log p(choice), p = σ(r_w − r_l).

Three answers ranked make the choices 0 > 1, 0 > 2 and 1 > 2, in one batch, where each answer is read once.
Sources: Bradley & Terry 1952; Ouyang et al. 2022, eq. 1 (rankings of K); Touvron et al. 2023, "Llama 2", eq.
2 (margins).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..batch import Batch, batch_pairs
from ..expect import expect, expect_finite, expect_tensor, expect_whole
from ..returns import last_token


def F(gap: Tensor) -> Tensor:
    """F = 1 on ∇ log p(choice) is 1 − p = σ(−gap) on ∇ r of the better answer, by the chain rule, and −(1 −
    p) on the worse."""
    return torch.sigmoid(-gap)


def loss(gap: Tensor) -> Tensor:
    """−log p(choice) = −log σ(r_w − r_l): Ouyang et al. 2022, eq. 1; with a margin m, gap = r_w − r_l − m,
    Touvron et al. eq. 2."""
    return -logsigmoid(gap)


def coefficient(batch: Batch, rewards: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """F on ∇ r of each answer, (B,), of a batch with better, worse and weight (P,).

    rewards (B,): r of each answer. margin: a number or (P,).
    """
    push = F(gaps(batch, rewards, margin)) * batch.weight.to(rewards)               # (P,)
    return torch.zeros_like(rewards).index_add(0, batch.better, push).index_add(0, batch.worse, -push)


def gaps(batch: Batch, rewards: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """r_w − r_l − m of each choice, (P,)."""
    batch.needs(weight="P float", better="P integer", worse="P integer")
    expect_tensor("rewards", rewards, "B", "float", B=len(batch.tokens))
    rows = torch.stack([batch.better, batch.worse])                                 # (2, P)
    known = 0 <= rows.min() and rows.max() < len(rewards)
    expect(known, "batch.better, batch.worse", f"{rows.min()} to {rows.max()}",
           f"the batch has {len(rewards)} rows")
    whole = not isinstance(margin, Tensor) or margin.shape == batch.better.shape
    expect(whole, "margin", "of another shape", "give a number, or one a choice")
    return rewards[batch.better] - rewards[batch.worse] - margin


def draw(rankings: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Batch:
    """(prompt, responses from best to worst), K ≥ 2 each -> a Batch with better, worse and weight (P,).

    A choice weighs 1 over the number of its prompt's choices.
    """
    answers, choices = [], []
    for i, (prompt, ranked) in enumerate(rankings):
        expect(len(ranked) >= 2, f"rankings[{i}]", f"of {len(ranked)} answers", "give two or more")
        K, first = len(ranked), len(answers)
        choices += [(first + w, first + l, 2 / (K * (K - 1))) for w, l in combinations(range(K), 2)]
        answers += [(prompt, y) for y in ranked]
    batch = batch_pairs(answers)
    batch.better, batch.worse, batch.weight = (torch.tensor(column) for column in zip(*choices))
    batch.divide_by = len(rankings)
    return batch


class RewardModel(nn.Module):
    """r(x, y), one number an answer: a linear head on the trunk's state at y's last token. The trunk is a
    Transformer.

    All r begin at 0.
    """

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Parameter(torch.zeros_like(trunk.embed.weight[0]))           # (D,)
        self.register_buffer("zero",
                             torch.zeros_like(self.head[0]))                # (): comparisons do not fix it

    def forward(self, tokens: Tensor, response_mask: Tensor) -> Tensor:
        """tokens (B, T), response_mask (B, T) -> rewards (B,)."""
        return self.trunk.hidden(tokens)[last_token(response_mask)] @ self.head - self.zero  # (B, D) @ (D,)

    @torch.no_grad()
    def standardise(self, tokens: Tensor, response_mask: Tensor) -> None:
        """Make r's mean 0 and its variance 1 over these answers, in place: the policy's own, before it is
        trained on r.

        A choice fixes r(x, y) up to a constant, and a critic that begins at 0 takes the constant for merit.
        With the variance at 1 a nat of KL costs beta standard deviations of r, whatever judge was trained.
        """
        rewards = self(tokens, response_mask)
        expect_finite("rewards", rewards)
        spread = rewards.std()
        expect(len(rewards) > 1 and bool(spread > 0), "tokens", "answers that all get one reward",
               "give two or more that differ, and a model that was trained")
        self.zero.copy_((self.zero + rewards.mean()) / spread)
        self.head.div_(spread)


def score(model: RewardModel, batch: Batch) -> Tensor:
    """r of each answer, (B,), with its gradient: what `train` scores in place of log-probs."""
    return model(batch.tokens, batch.response_mask)


def calibration(gaps: Tensor, bins: int = 5) -> Tensor:
    """Is it right as often as it says? r_w − r_l (N,) of held-out choices -> (3, bins): mean σ(|gap|), share
    right, count.

    NaN where a bin is empty.
    """
    expect_tensor("gaps", gaps, "N", "finite")
    expect_whole(1, bins=bins)
    says = gaps.detach().abs().sigmoid()                                            # from 1/2 to 1
    sums = torch.stack([says, (gaps.detach().sign() + 1) / 2,
                        torch.ones_like(says)])  # (3, N); a tie is half right
    total = sums.new_zeros(3, bins).index_add(1, ((says - 0.5) * 2 * bins).long().clamp(max=bins - 1), sums)
    return torch.cat([total[:2] / total[2], total[2:]])
