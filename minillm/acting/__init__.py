"""y in which a tool wrote some of the tokens: tools, and those who call them.

tools (what a tool is, a call in three forms, a call that is made), calculator, toolbox (the other tools of
the course), transcript (a model that calls tools while it answers, and what of it is y),
json_calls (calls as models from elsewhere write them),
errands (questions that need a tool, and questions that need none).
"""
