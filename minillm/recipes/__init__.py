"""Stages that the chapters and the main job share: imitate, compare, learn a reward, ppo, prefer, evaluate."""
