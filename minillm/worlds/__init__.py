"""Where x and R come from: questions with exact checkers, and judges.

town (facts), sums (arithmetic), own (the learner's files), judgements (a gold reward, people who compare),
monty_hall (the puzzle and its variants), go (a board with an exact referee).
"""
