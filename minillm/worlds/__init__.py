"""Where x and R come from: questions with exact checkers. town (facts), sums (arithmetic), own (the learner's files).

Left out until their chapters need them: countdown, Monty Hall, judgements, tools.
"""
