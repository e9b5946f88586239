"""find-the-race: runners of a plan, right in six ways and wrong in twenty, for a learner's test.

Each takes a plan, a tool and the seconds that each step's reply takes, and gives the replies. The clock is a
number that the runner counts: nothing waits, and no thread is begun, so that every run is the same.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter

from minillm.expect import expect, expect_whole

from ..planted import finds_planted

MOST, SECONDS = 20, 60          # steps of a plan, and what one reply may take
LINE = re.compile(r"#([1-9][0-9]?) = ([a-z_]+\(.{0,100}\))")
VARIABLE = re.compile(r"#([0-9]+)")


class NoText(BaseException):
    """The learner's tool gave something else than a text. It is no Exception: no runner catches it."""


def handed_out(inside: Callable[..., list]) -> Callable[..., list]:
    """The function as a learner's test gets it: one name, signature and set of checks for all code."""

    def runner(plan: Sequence[str], tool: Callable[[str], str], seconds: Sequence[int]) -> list:
        """The reply to each step of a plan, and None where there is none: so it claims."""
        expect(isinstance(plan, list | tuple) and 1 <= len(plan) <= MOST, "plan", plan,
               f"give a list of 1 to {MOST} lines")
        calls = []
        for number, line in enumerate(plan, 1):
            found = LINE.fullmatch(line) if isinstance(line, str) else None
            expect(found is not None and int(found[1]) == number, "plan", line,
                   f"write line {number} as #{number} = name(…)")
            early = all(1 <= int(n) < number for n in VARIABLE.findall(found[2]))
            expect(early, "plan", line, "name variables of earlier lines alone")
            calls.append(found[2])
        expect(callable(tool), "tool", tool, "give a function from the text of a call to its reply")
        expect(isinstance(seconds, list | tuple) and len(seconds) == len(plan), "seconds", seconds,
               f"give a list of {len(plan)} whole numbers, one for each line")
        for number in seconds:
            expect_whole(1, SECONDS + 1, seconds=number)

        def asked(text: str) -> str:
            reply = tool(text)
            if not isinstance(reply, str):
                raise NoText(reply)
            return reply

        try:
            return inside(calls, asked, list(seconds))
        except NoText as error:
            expect(False, "tool's reply", error.args[0], "let the tool return a text")

    return runner


# --- right ----------------------------------------------------------------------------------------


def named(call):
    """The numbers of the steps whose replies a call names."""
    return set(map(int, VARIABLE.findall(call)))


def by_name(call, replies, order=()):
    """Each variable that has a reply becomes it, all at once."""
    return VARIABLE.sub(lambda found: str(replies.get(int(found[1]), found[0])), call)


def moment_by_moment(calls, tool, seconds, *, fill=by_name, enough=all, comes=lambda now, own: now + own,
                     turned=False, levels=False, catch=Exception, as_none=False, stops=False, hurried=False,
                     one_a_moment=False, there=lambda reply: True, again=False,
                     back=lambda replies, order, K: [replies.get(k) for k in range(1, K + 1)]):
    """From one arrival to the next: all replies of a moment, then all steps that can start.

    Right as it is. fill: of a call, the replies and the order in which they came, the text. enough: of
    whether each reply is there, if that will do. comes: of now and a step's seconds, when its reply does.
    turned: the plan's last step first. levels: nothing starts while something is coming. catch: which errors
    of the tool are caught. as_none: a failed step's reply is None, and steps that need it start. stops: after
    a failure nothing starts. hurried: when all have started, one more moment is waited for. one_a_moment: of
    the replies of a moment one is kept. there: of a reply, whether it counts. again: a step is started by
    each reply that it needs and that finds the others there. back: what is returned.
    """
    K, now = len(calls), 0
    needs = {k: named(call) for k, call in enumerate(calls, 1)}
    replies, order, coming, started, stopped = {}, [], [], set(), False
    look = list(needs)
    while True:
        waits = bool(levels and coming) or (stops and stopped)
        for k in look[::-1] if turned else look:
            if waits or (k in started and not again):
                continue
            if needs[k] and not enough(n in replies for n in needs[k]):
                continue
            started.add(k)
            try:
                coming.append((comes(now, seconds[k - 1]), k, tool(fill(calls[k - 1], replies, order))))
            except catch:
                stopped = True
                if as_none:
                    coming.append((comes(now, seconds[k - 1]), k, None))
        if not coming:
            break
        before, now = order[:], min(coming)[0]
        arrived = [(k, reply) for at, k, reply in sorted(coming, key=lambda c: c[:2]) if at == now]
        for k, reply in arrived[-1:] if one_a_moment else arrived:
            if there(reply):
                replies[k] = reply
                order.append(k)
        coming = [c for c in coming if c[0] != now]
        look = list(needs) if not again else [k for n in order[len(before):] for k in needs if n in needs[k]]
        if hurried and len(started) == K:
            break
    return back(replies, order, K)


def by_a_heap(calls, tool, seconds):
    """Arrivals in a heap, by time."""
    K = len(calls)
    replies, coming, waiting = [None] * K, [], list(range(K))

    def begin(now):
        for k in waiting[:]:
            if all(replies[n - 1] is not None for n in named(calls[k])):
                waiting.remove(k)
                try:
                    text = tool(VARIABLE.sub(lambda found: replies[int(found[1]) - 1], calls[k]))
                except Exception:                           # as the task has it: its reply stays None
                    continue
                heapq.heappush(coming, (now + seconds[k], k, text))

    begin(0)
    while coming:
        now = coming[0][0]
        while coming and coming[0][0] == now:
            _, k, text = heapq.heappop(coming)
            replies[k] = text
        begin(now)
    return replies


def by_starts(calls, tool, seconds):
    """First when each step would start, from needs and seconds alone; then the calls in that order."""
    starts = []
    for call in calls:
        starts.append(max((starts[n - 1] + seconds[n - 1] for n in named(call)), default=0))
    replies = {}
    for k in sorted(range(1, len(calls) + 1), key=lambda k: (starts[k - 1], k)):
        if named(calls[k - 1]) <= replies.keys():
            try:
                replies[k] = tool(by_name(calls[k - 1], replies))
            except Exception:
                continue
    return [replies.get(k) for k in range(1, len(calls) + 1)]


def second_by_second(calls, tool, seconds):
    """Time goes on by one."""
    K = len(calls)
    state, replies = ["waits"] * K, [None] * K
    for now in range(sum(seconds) + 1):
        for k in range(K):
            if isinstance(state[k], tuple) and state[k][0] == now:
                replies[k], state[k] = state[k][1], "done"
        for k in range(K):
            if state[k] == "waits" and all(state[n - 1] == "done" for n in named(calls[k])):
                pieces = re.split(r"(#[0-9]+)", calls[k])
                text = "".join(replies[int(p[1:]) - 1] if VARIABLE.fullmatch(p) else p for p in pieces)
                try:
                    state[k] = now + seconds[k], tool(text)
                except Exception:
                    state[k] = "failed"
    return replies


def by_a_graph(calls, tool, seconds):
    """The standard library says which steps are ready."""
    graph = TopologicalSorter({k: named(call) for k, call in enumerate(calls, 1)})
    graph.prepare()
    replies, dates, now = {}, defaultdict(dict), 0
    while graph.is_active():
        for k in sorted(graph.get_ready()):
            try:
                dates[now + seconds[k - 1]][k] = tool(by_name(calls[k - 1], replies))
            except Exception:
                continue                                    # never done, so that none who needs it is ready
        if not dates:
            break
        now = min(dates)
        replies |= dates[now]
        graph.done(*dates.pop(now))
    return [replies.get(k) for k in range(1, len(calls) + 1)]


def by_counting(calls, tool, seconds):
    """Each step counts how many replies it waits for."""
    K = len(calls)
    missing = [len(named(call)) for call in calls]
    agenda = {0: []}                                        # time -> replies that come then
    known = [None] * K
    while agenda:
        now = min(agenda)
        could = [k for k in range(K) if not missing[k]] if now == 0 else []
        for k, reply in agenda.pop(now):
            known[k] = reply
            for later in range(K):
                if k + 1 in named(calls[later]):
                    missing[later] -= 1
                    could += [later] * (missing[later] == 0)
        for k in sorted(could):
            try:
                reply = tool(by_name(calls[k], {n: known[n - 1] for n in named(calls[k])}))
            except Exception:
                continue
            agenda.setdefault(now + seconds[k], []).append((k, reply))
    return known


RIGHT = (moment_by_moment, by_a_heap, by_starts, second_by_second, by_a_graph, by_counting)


# --- wrong ----------------------------------------------------------------------------------------


def inside_12(calls, tool, seconds):
    """Variables by replace, the first one first: #1 is found inside #12."""
    def fill(call, replies, order):
        held = {}                                           # what is put in is not searched
        for n in sorted(replies):
            held[chr(0xE000 + n)] = replies[n]
            call = call.replace(f"#{n}", chr(0xE000 + n))
        return "".join(held.get(letter, letter) for letter in call)
    return moment_by_moment(calls, tool, seconds, fill=fill)


def read_again(calls, tool, seconds):
    """What a reply says is searched for variables too, once."""
    return moment_by_moment(calls, tool, seconds,
                            fill=lambda call, replies, order: by_name(by_name(call, replies), replies))


def last_writer(calls, tool, seconds):
    """There is one place for a reply, and the last that came is in it."""
    return moment_by_moment(calls, tool, seconds, fill=lambda call, replies, order: by_name(
        call, dict.fromkeys(replies, replies[order[-1]]) if order else {}))


def by_arrival(calls, tool, seconds):
    """#2 is the reply that came second."""
    def fill(call, replies, order):
        came = {n: replies[k] for n, k in enumerate(order, 1)}
        return by_name(call, came)
    return moment_by_moment(calls, tool, seconds, fill=fill)


def back_by_arrival(calls, tool, seconds):
    """Replies come back in the order in which they came, None behind them."""
    return moment_by_moment(calls, tool, seconds, back=lambda replies, order, K: (
        [replies[k] for k in order] + [None] * (K - len(order))))


def last_step_dropped(calls, tool, seconds):
    """The plan's last step is never called."""
    return [*moment_by_moment(calls[:-1], tool, seconds[:-1]), None]


def not_waited_for(calls, tool, seconds):
    """When every step has been called, only the replies of the next moment are waited for."""
    return moment_by_moment(calls, tool, seconds, hurried=True)


def one_of_a_moment(calls, tool, seconds):
    """Of replies that come at the same moment one is kept."""
    return moment_by_moment(calls, tool, seconds, one_a_moment=True)


def nothing_for_empty(calls, tool, seconds):
    """An empty reply is taken for none."""
    return moment_by_moment(calls, tool, seconds, there=bool)


def first_input(calls, tool, seconds):
    """A step starts with the first of the replies that it needs."""
    return moment_by_moment(calls, tool, seconds, enough=any)


def level_by_level(calls, tool, seconds):
    """Nothing starts before all that was called has come."""
    return moment_by_moment(calls, tool, seconds, levels=True)


def from_the_beginning(calls, tool, seconds):
    """A step's seconds are counted from the beginning, not from its call."""
    return moment_by_moment(calls, tool, seconds, comes=lambda now, own: max(now + 1, own))


def last_one_first(calls, tool, seconds):
    """Of steps that can start, the plan's last is called first."""
    return moment_by_moment(calls, tool, seconds, turned=True)


def called_by_each(calls, tool, seconds):
    """A step is called by each of its replies that finds the others there."""
    return moment_by_moment(calls, tool, seconds, again=True)


def same_text(calls, tool, seconds):
    """A call whose text was there before is not made again."""
    known = {}

    def once(text):
        if text not in known:
            known[text] = tool(text)
        return known[text]

    return moment_by_moment(calls, once, seconds)


def tried_again(calls, tool, seconds):
    """A call that fails is made once more."""
    def twice(text):
        try:
            return tool(text)
        except Exception:
            return tool(text)
    return moment_by_moment(calls, twice, seconds)


def error_for_value(calls, tool, seconds):
    """What went wrong is a text, and goes on as a reply."""
    def told(text):
        try:
            return tool(text)
        except Exception as error:
            return f"error: {error}"
    return moment_by_moment(calls, told, seconds)


def none_for_value(calls, tool, seconds):
    """A step that needs a failed one is called with None in its place."""
    return moment_by_moment(calls, tool, seconds, as_none=True)


def all_stops(calls, tool, seconds):
    """After a failure nothing more is called; what was called still comes."""
    return moment_by_moment(calls, tool, seconds, stops=True)


def lets_it_through(calls, tool, seconds):
    """What the tool raises reaches whoever called the runner."""
    return moment_by_moment(calls, tool, seconds, catch=())


VALUE = ("each variable of a call becomes the reply to the step of its number, whatever that says, and "
         "nothing else in the call changes")
BACK = ("what comes back has a place for each step, in the plan's order, and in it the reply to that step, "
        "as it came")
START = ("a step is called at the moment when the last reply that it needs has come, not before and not "
         "later; of several that are called at one moment, the plan's first comes first")
ONCE = "no step is called twice, and each is called whose replies have come"
FAILS = ("a step whose call raises has None, and so has every step that needs it; these are never called, "
         "and all others go on")

# (what is wrong, on what it shows, the code, the law that sees it)
WRONG = (
    ("#1 is found inside #12", "a plan of ten steps or more, in which #10 or a later one is named", inside_12,
     VALUE),
    ("what a reply says is searched for variables too",
     "a reply that holds a variable among other words, such as see #1", read_again, VALUE),
    ("all variables of a call become the reply that came last",
     "a call that names two variables", last_writer, VALUE),
    ("#2 becomes the reply that came second, and not the one to step 2",
     "a call that names variables whose replies come in another order than the plan's", by_arrival, VALUE),
    ("replies come back in the order in which they came",
     "replies that come in another order than the plan's", back_by_arrival, BACK),
    ("the plan's last step is never called", "any plan", last_step_dropped, BACK),
    ("once every step has been called, only the replies of one more moment are waited for",
     "two replies that come at two moments, after all steps were called", not_waited_for, BACK),
    ("of replies that come at the same moment one is kept", "two replies that come at the same moment",
     one_of_a_moment, BACK),
    ("an empty reply is taken for none", 'a reply that is "", and a step that needs it', nothing_for_empty,
     BACK),
    ("a step is called when the first of its replies has come",
     "a step that needs two replies which come at different moments", first_input, START),
    ("nothing is called before all replies that are under way have come",
     "the order of the calls, where a later step of the plan can start before an earlier one",
     level_by_level, START),
    ("seconds are counted from the beginning, and not from a step's own call",
     "the order of the calls, where one of two late steps is reached over more seconds than the other",
     from_the_beginning, START),
    ("of steps that can start at one moment, the plan's last is called first",
     "the order of two calls that can start at one moment", last_one_first, START),
    ("a step is called by each of its replies that finds the others there",
     "how often a step is called that needs two replies which come at the same moment", called_by_each,
     ONCE),
    ("a call whose text was there before is not made again", "how often two steps with the same text are "
     "called", same_text, ONCE),
    ("a call that fails is made once more", "how often a step is called whose call raises", tried_again,
     ONCE),
    ("the text of an error goes on as a reply", "what comes back for a call that fails", error_for_value,
     FAILS),
    ("a step that needs a failed one is called, with None in the call",
     "a step that needs one whose call raises", none_for_value, FAILS),
    ("after a failure nothing more is called", "a step that is called after another one has failed, and does "
     "not need it", all_stops, FAILS),
    ("what the tool raises reaches the caller of the runner", "any plan with a call that fails",
     lets_it_through, FAILS),
)

# what comes back from these is right: only the calls tell
SEEN_IN_CALLS = (level_by_level, from_the_beginning, last_one_first, called_by_each)

FIND_THE_RACE = finds_planted(
    name="find-the-race", title="A test that finds the race", minutes=30, difficulty=3,
    argument="runner", handed_out=handed_out, right=RIGHT, wrong=WRONG,
    advice=("Then what you expect is not what the task says. All replies of a moment come before anything is "
            "called at that moment, and calls of one moment are made in the plan's order. A failed step has "
            "None, and so has each step that needs it. Right code raises only where plan, tool or seconds "
            "are not as the task says."),
    learned=("You have a test of programs that do several things at once: it needs no luck, since it decides "
             "itself which reply comes first."),
    hints=(
        "Let your tool write down each text that it is asked, in a list, and answer by the text: "
        "{\"a()\": \"7\", …}[text]. Then look at what comes back and at the list. Put the call of the runner "
        "into a try: what raises is wrong too.",
        "Begin with three steps, the third of which names #1 and #2, and let the second reply come first: "
        "seconds = [5, 1, 1]. Look at the text of the third call. Then let both come at the same moment, and "
        "count the calls.",
        "For the order of calls: two quick steps in a row beside a slow one, and steps that wait for either. "
        "For failures: a tool that raises on one text, a step that needs that one, a step that needs this "
        "one, and a step that needs neither and is called later. Last: a reply that is empty, one that is "
        "\"see #1\", two steps with the same text, and a plan of twelve steps."),
    half=("the calls are not looked at",
          "What comes back is looked at, and not what the tool was asked, how often and in which order. Let "
          "the tool keep a list.",
          SEEN_IN_CALLS),
    or_not=(same_text, tried_again, inside_12, read_again, one_of_a_moment, nothing_for_empty))
