"""`make chat`: talk to a model in the terminal, or in a pipe.

conversation (what is asked, what the model reads, tokens to pieces of text), screen (a terminal, a pipe),
__main__ (the command). It needs models from folders and tools at once, so it is on top of both.
"""
