"""What runs beside a learner's function, in its process.

Nothing here knows an answer, or imports who does.
"""
