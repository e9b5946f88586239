"""y = (scratchpad, answer): chains of thought, votes, trees, follow-up questions, learned outcomes.

scratchpad (written chains, and what they change), vote (many chains, one answer), tree (steps that are
proposed, valued, kept or pruned), steps (F on a step's own tokens), self_ask (follow-up questions, and the
compositionality gap).
"""
