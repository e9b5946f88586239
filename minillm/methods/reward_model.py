"""Reward model: pairs of answers, a person's choice, F = 1 on ∇ log p(choice), p = σ(r_w − r_l). It leaves out who chooses.

Three answers ranked make the choices 0 > 1, 0 > 2 and 1 > 2, in one batch, where each answer is read once. Sources: Bradley & Terry
1952; Ouyang et al. 2022, eq. 1 (rankings of K); Touvron et al. 2023, "Llama 2", eq. 2 (margins).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..expect import expect, expect_finite, expect_tensor
from ..batch import Batch, batch_pairs
from ..returns import last_token


class RewardModel(nn.Module):
    """r(x, y), one number an answer: a linear head on the trunk's state at y's last token. The trunk is a Transformer; all r begin at 0."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Parameter(torch.zeros_like(trunk.embed.weight[0]))           # (D,)
        self.register_buffer("zero", torch.zeros_like(self.head[0]))                # (): comparisons do not fix it

    def forward(self, tokens: Tensor, response_mask: Tensor) -> Tensor:
        """tokens (B, T), response_mask (B, T) -> rewards (B,)."""
        return self.trunk.hidden(tokens)[last_token(response_mask)] @ self.head - self.zero  # (B, D) @ (D,)

    @torch.no_grad()
    def standardise(self, tokens: Tensor, response_mask: Tensor) -> None:
        """Make r's mean 0 and its variance 1 over these answers, in place: the policy's own, before it is trained on r.

        A choice fixes r(x, y) up to a constant, and a critic that begins at 0 takes the constant for merit. With the
        variance at 1 a nat of KL costs beta standard deviations of r, whatever judge was trained.
        """
        rewards = self(tokens, response_mask)
        expect_finite("rewards", rewards)
        spread = rewards.std()
        expect(len(rewards) > 1 and bool(spread > 0), "tokens", "answers that all get one reward",
               "give two or more that differ, and a model that was trained")
        self.zero.copy_((self.zero + rewards.mean()) / spread)
        self.head.div_(spread)


def score(model: RewardModel, tokens: Tensor, response_mask: Tensor) -> Tensor:
    """r on the last token of y, 0 elsewhere, (B, T), with its gradient: what `train` scores in place of log-probs."""
    return model(tokens, response_mask)[:, None].where(last_token(response_mask), 0.0)


def coefficient(rewards: Tensor, better: Tensor, worse: Tensor, weight: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """F = 1 on ∇ log p(choice), which is (B,) on ∇ r: +(1 − p) to the better answer, −(1 − p) to the worse, p = σ(r_w − r_l − m).

    rewards (B,); better, worse (P,): rows of the batch, one pair a choice; weight (P,): `draw`'s, 1 for a plain pair.
    """
    doubt = weight.to(rewards) * torch.sigmoid(-_gap(rewards.detach(), better, worse, weight, margin))  # (P,)
    return torch.zeros_like(rewards.detach()).index_add(0, better, doubt).index_add(0, worse, -doubt)


def loss(rewards: Tensor, better: Tensor, worse: Tensor, weight: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """−log σ(r_w − r_l − m), (P,), each by its weight: Ouyang et al. 2022, eq. 1; with a margin m (P,), Touvron et al. 2023, eq. 2."""
    return -weight.to(rewards) * F.logsigmoid(_gap(rewards, better, worse, weight, margin))


def _gap(rewards: Tensor, better: Tensor, worse: Tensor, weight: Tensor, margin: Tensor | float) -> Tensor:
    expect_tensor("rewards", rewards, "B", "float")
    expect_finite("rewards", rewards.detach())
    expect_tensor("weight", weight, "P", "float")
    for name, rows in (("better", better), ("worse", worse)):
        expect_tensor(name, rows, "P", "integer", P=len(weight))
        expect(0 <= rows.min() and rows.max() < len(rewards), name, f"{rows.min()} to {rows.max()}", f"the batch has {len(rewards)} rows")
    expect(not isinstance(margin, Tensor) or margin.shape == better.shape, "margin", "of another shape", "give a number, or one a choice")
    return rewards[better] - rewards[worse] - margin


def draw(rankings: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Batch:
    """(prompt, responses from best to worst), K ≥ 2 each -> a Batch with better, worse, weight (P,): 1 over its prompt's choices."""
    answers, choices = [], []
    for i, (prompt, ranked) in enumerate(rankings):
        expect(len(ranked) >= 2, f"rankings[{i}]", f"of {len(ranked)} answers", "give two or more")
        K, first = len(ranked), len(answers)
        choices += [(first + w, first + l, 2 / (K * (K - 1))) for w, l in combinations(range(K), 2)]
        answers += [(prompt, y) for y in ranked]
    batch, each = batch_pairs(answers), (torch.tensor(column) for column in zip(*choices))
    batch.better, batch.worse, batch.weight, batch.pairs = *each, len(rankings)
    return batch


def calibration(gaps: Tensor, bins: int = 5) -> Tensor:
    """Is it right as often as it says? r_w − r_l (N,) of held-out choices -> (3, bins): mean σ(|gap|), share right, count; NaN if none."""
    expect_tensor("gaps", gaps, "N", "float")
    expect_finite("gaps", gaps)
    expect(isinstance(bins, int) and bins >= 1, "bins", bins, "give 1 or more")
    says = gaps.detach().abs().sigmoid()                                            # from 1/2 to 1
    sums = torch.stack([says, (gaps.detach().sign() + 1) / 2, torch.ones_like(says)])  # (3, N); a tie is half right
    total = sums.new_zeros(3, bins).index_add(1, ((says - 0.5) * 2 * bins).long().clamp(max=bins - 1), sums)
    return torch.cat([total[:2] / total[2], total[2:]])
