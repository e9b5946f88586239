"""y in which a tool wrote some of the tokens: tools, and those who call them.

    tools       what a tool is, a call in three forms, a call that is made
    calculator  one tool
    toolbox     the others: calendar, search, notebook, another model, a person
    transcript  a model that calls tools while it answers, and what of it is y
    json_calls  calls as models from elsewhere write them
    errands     questions that need a tool, and questions that need none
    toolformer  which of the calls that a model tries within texts are worth learning
    react       thoughts, calls and replies in four ways, and runs that are kept because they ended right
    rewoo       a whole plan first, then its calls, then the answer
    compiler    the calls of a plan side by side, as their inputs arrive, on threads and on a computed clock
    retrieval   when to look, and what each thing that came back is worth
"""
