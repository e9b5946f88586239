"""Stages that the chapters and the main job share: imitate, compare, learn a reward, ppo, prefer, evaluate.

Each is a draw and an F for `train`. `imitate` from the base model gives the shipped hub.load("tuned").
"""

LONGEST = 40    # tokens of an answer
BETA = 0.3      # of PPO and of DPO: what a nat of KL costs in reward
