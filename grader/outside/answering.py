"""Runs planted code in a sandbox of its own, where a learner's test cannot see it and it can harm nobody.

    python -I -B answering.py COURSE READ WRITE

What a learner's test hands to planted code comes from strangers, so it is not taken in the grader's process.
A fork for each exercise: OPEN names the code, RELAY carries calls and what they give (grader/inside/far.py).
"""

from __future__ import annotations

import os
import resource
import sys


def main(course: str, ends: tuple[int, int]) -> None:
    """Import all checks, then fork for each exercise that is asked for."""
    sys.path.insert(0, course)
    from grader.inside.frames import ENDED, READY, RUN, Gone, Pipe
    from grader.outside.notebook import ALL

    line = Pipe(*ends)
    line.send(READY, sorted(ALL))
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    try:
        while True:
            kind, told = line.receive()
            if kind == ENDED:                   # of a fork that has gone already
                continue
            assert kind == RUN
            name, seconds = told
            pid = os.fork()
            if not pid:
                try:
                    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
                    serve(line, ALL[name].planted)
                except BaseException:
                    os._exit(70)
                os._exit(0)
            line.rest.clear()                   # what came with it was for the fork
            os.waitpid(pid, 0)
            line.send(ENDED, name)
    except Gone:
        os._exit(0)


def serve(line, planted) -> None:
    """One exercise: number after number of planted code is opened, and called."""
    from grader.inside.far import End
    from grader.inside.frames import OPEN, RELAY, decode

    def receive() -> bytes:
        kind, raw = line.receive_raw()
        if kind != RELAY:                       # its test has ended while it waited
            os._exit(0)
        return raw

    end = End(lambda raw: line.send_raw(RELAY, raw), receive)
    while True:
        kind, raw = line.receive_raw()
        if kind == OPEN:
            end.clear()
            end.things.append(planted(decode(raw)))
        elif kind == RELAY:
            end.send_bytes(end.serve(decode(raw)))
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])))
