"""Where x and R come from: questions with exact checkers, and judges.

town (facts), two_hop (two facts in a question), sums (arithmetic), own (the learner's files),
judgements (a gold reward, people who compare), monty_hall (the puzzle and its variants), go (a board with an
exact referee), cups (swaps, one after the other), countdown (numbers and a target, an exact solver),
totals (texts in which two amounts are told, and their total), lookups (questions that take several
look-ups), changing (facts that change with the year).
"""
