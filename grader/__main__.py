"""The class's grader, python -m grader COMMAND: reads the arguments. The work is in outside/classroom."""

from __future__ import annotations

import argparse
import json
import os
import sys
from difflib import get_close_matches
from pathlib import Path

from .outside import CHAPTERS
from .outside.classroom import export, merge, pool, regrade, release, run, single, verify
from .outside.classroom.plain import Refused, expect, name_of, plain

EPILOG = """examples
  python -m grader grade handed-in/ --chapter 13 --out results/      marks, pages and a summary of a class
  python -m grader grade handed-in/ --chapter 13 --out results/ --resume      go on after a stop
  python -m grader check 13_dpo.ipynb      one notebook; exit code 0 all right, 1 not all, 2 it was not marked
  python -m grader status      what isolation there is on this machine, and what is missing

Exit codes: 0 done (whatever the marks are), 1 the grader itself broke on something, 2 the command cannot be
done, 130 stopped. `check` has its own. TEACHING.md goes from cloning to marks in a page.
"""


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]):
        raise argparse.ArgumentTypeError(f"it is {text!r}: give a whole number, 1 or more")
    return int(text)


def a_seed(text: str) -> int:
    """A whole number that JSON keeps exactly."""
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) >= 2**53:
        raise argparse.ArgumentTypeError(f"it is {text!r}: give a whole number from 0 to 2**53 - 1")
    return int(text)


def seconds(text: str) -> float:
    """A time above 0, of a day at most."""
    return above_0(text, 86400, "CPU seconds, above 0 and up to 86400")


def worth(text: str) -> float:
    """Points of an assignment, above 0."""
    return above_0(text, 1e6, "a number above 0")


def above_0(text: str, most: float, wanted: str) -> float:
    """A number above 0 and up to `most`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"it is {text!r}: give {wanted}")
    return value


def a_shard(text: str) -> tuple[int, int]:
    """i/n, counted from 1."""
    i, slash, n = text.partition("/")
    digits = all(part.isascii() and part.isdigit() and len(part) < 7 for part in (i, n))
    if not slash or not digits or not 1 <= int(i) <= int(n):
        raise argparse.ArgumentTypeError(f"it is {text!r}: give I/N with I from 1 to N, such as 3/16")
    return int(i), int(n)


def a_chapter(text: str) -> int:
    """A chapter that has exercises."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
    if number not in CHAPTERS:
        raise argparse.ArgumentTypeError(
            f"it is {text!r}: chapters with exercises are {', '.join(map(str, CHAPTERS))}")
    return number


def exercises(text: str) -> tuple[str, ...]:
    """Names of exercises, with commas between them."""
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    known = [check.name for checks in CHAPTERS.values() for check in checks]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise argparse.ArgumentTypeError(
                f"{name!r} is no exercise"
                + (f". Did you mean {near[0]!r}?" if near else ": `python -m grader status` lists all")
            )
    if not names:
        raise argparse.ArgumentTypeError(f"it is {text!r}: name exercises, with commas between them")
    return names


def of_chapter(names: tuple[str, ...], chapter: int) -> tuple[str, ...]:
    """These exercises in the chapter's order; Refused for one of another chapter."""
    own = [check.name for check in CHAPTERS[chapter]]
    for name in names:
        expect(
            name in own,
            "--only",
            name,
            f"it is no exercise of chapter {chapter}. There are: {', '.join(own)}",
        )
    return tuple(name for name in own if name in names)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m grader",
        description="Marks a class's notebooks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    grade = commands.add_parser(
        "grade",
        help="mark all submissions of a class",
        description="Marks each submission, and writes grades.csv, grades.json, a page "
        "for each student and summary.html to OUT. Nothing else is written.",
    )
    grade.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSIONS",
                       help="a folder with a folder or an .ipynb file for each student; or notebooks")
    grade.add_argument("--chapter", type=a_chapter, required=True, metavar="N")
    grade.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new folder for the results")
    jobs_option(grade)
    only_option(grade, "mark these exercises alone: a,b")
    timeout_option(grade)
    grade.add_argument(
        "--seed",
        type=a_seed,
        metavar="N",
        help="inputs are drawn from it and each submission's name (default: drawn, and recorded)",
    )
    grade.add_argument("--shard", type=a_shard, metavar="I/N", help="a part of the class; `merge` joins them")
    unsafe_option(grade)
    grade.set_defaults(do=do_grade)

    check = commands.add_parser(
        "check",
        help="mark one notebook",
        description="Marks one notebook; its chapter is found from the exercises in it. "
        "Exit code 0: all right, 1: not all, 2: it could not be told.",
    )
    check.add_argument("file", type=Path, metavar="FILE.ipynb")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    only_option(check, "mark these exercises alone: a,b")
    timeout_option(check)
    check.add_argument("--seed", type=a_seed, default=0, metavar="N", help="(default: %(default)s)")
    unsafe_option(check)
    check.set_defaults(do=do_check)

    status = commands.add_parser("status", help="how far a run is; or what isolation this machine has",
                                 description="Without RESULTS: the isolation that is in force here, what is "
                                             "missing, and all exercises.")
    status.add_argument("results", type=Path, nargs="?", metavar="RESULTS")
    status.set_defaults(do=lambda a: single.status(a.results))

    out = commands.add_parser("release", help="what is handed to students, without answers",
                              description="Writes a chapter's exercises and what they need to a new folder. "
                                          "--for nbgrader: the source of an assignment, with solutions.")
    out.add_argument("--chapter", type=a_chapter, required=True, metavar="N")
    out.add_argument("--out", type=Path, required=True, metavar="DIR")
    kinds = out.add_mutually_exclusive_group()
    kinds.add_argument("--with-checks", action="store_true",
                       help="with the checks that explain what is wrong; their source tells what is right")
    kinds.add_argument(
        "--for", dest="kind", choices=["nbgrader"], help="the source of an nbgrader assignment"
    )
    out.set_defaults(do=do_release)

    again = commands.add_parser(
        "regrade",
        help="grade again after a check was mended",
        description="Grades with the seeds of an earlier run, and says whose mark changes "
        "and why. The earlier run stays as it is.",
    )
    again.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSIONS")
    again.add_argument("--from", dest="results", type=Path, required=True, metavar="RESULTS",
                       help="the folder of the earlier run")
    again.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new folder")
    jobs_option(again)
    only_option(again, "mark these again: a,b; the others keep their marks")
    unsafe_option(again)
    again.set_defaults(do=do_regrade)

    proof = commands.add_parser(
        "verify", help="prove every check: solutions pass, wrong answers fail by name"
    )
    proof.add_argument("--chapter", type=a_chapter, metavar="N", help="(default: all)")
    only_option(proof, "these exercises alone: a,b")
    proof.add_argument("--seeds", type=at_least_one, default=1, metavar="N",
                       help="how many seeds each solution is tried on (default: %(default)s)")
    unsafe_option(proof)
    proof.set_defaults(do=do_verify)

    book = commands.add_parser("export", help="marks for Canvas or Moodle",
                               description="Fills a gradebook's own CSV with the marks.")
    book.add_argument("results", type=Path, metavar="RESULTS", help="the folder of a run")
    book.add_argument("--for", dest="kind", choices=sorted(export.FORMS), required=True)
    book.add_argument(
        "--roster",
        type=Path,
        required=True,
        metavar="FILE.csv",
        help="what the gradebook exports: Canvas: Grades, Export; Moodle: the grading worksheet",
    )
    book.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="a new file")
    book.add_argument("--column", metavar="NAME", help="the assignment's name (default: Chapter N)")
    book.add_argument("--points", type=worth, metavar="P", help="what it is worth (default: 1 an exercise)")
    book.set_defaults(do=lambda a: export.export(a.results, a.kind, a.roster, a.out, a.column, a.points))

    parts = commands.add_parser("merge", help="join the results of shards",
                                description="Writes what one run over the whole class would have written.")
    parts.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="the folders of all shards")
    parts.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new folder")
    parts.set_defaults(do=do_merge)
    return top


def unsafe_option(command: argparse.ArgumentParser) -> None:
    """--unsafe, the same everywhere."""
    command.add_argument(
        "--unsafe",
        action="store_true",
        help="run without isolation: the code can then do all that you can. For code you trust",
    )


def jobs_option(command: argparse.ArgumentParser) -> None:
    """--jobs and --resume."""
    command.add_argument("--jobs", type=at_least_one, default=cores(), metavar="N",
                         help="submissions at a time (default: the cores of this machine, here %(default)s)")
    command.add_argument("--resume", action="store_true", help="go on with the run that OUT holds")


def only_option(command: argparse.ArgumentParser, said: str) -> None:
    """--only."""
    command.add_argument("--only", type=exercises, default=(), metavar="NAMES", help=said)


def timeout_option(command: argparse.ArgumentParser) -> None:
    """--timeout."""
    command.add_argument("--timeout", type=seconds, metavar="SECONDS",
                         help="CPU seconds for each exercise (default: ten times its solution's, at least 5)")


def do_grade(args: argparse.Namespace) -> int:
    """Mark a class."""
    wish = run.Wish(
        tuple(args.submissions),
        args.chapter,
        args.out,
        args.seed,
        of_chapter(args.only, args.chapter),
        args.timeout,
        args.jobs,
        args.resume,
        args.unsafe,
        args.shard,
    )
    return 1 if run.grade(wish) else 0


def do_check(args: argparse.Namespace) -> int:
    """Mark one notebook. With --json an error is JSON as well."""
    try:
        return single.check(args.file, args.json, args.unsafe, args.seed, args.timeout, args.only)
    except Refused as refused:
        if args.json:
            print(json.dumps({"file": name_of(args.file), "right": None, "error": plain(str(refused))}))
        raise


def do_regrade(args: argparse.Namespace) -> int:
    """Grade again."""
    failed = regrade.regrade(
        args.results, tuple(args.submissions), args.out, args.only, args.jobs, args.unsafe, args.resume
    )
    return 1 if failed else 0


def do_merge(args: argparse.Namespace) -> int:
    """Join shards."""
    merge.merge(args.shards, args.out)
    return 0


def do_release(args: argparse.Namespace) -> int:
    """Hand out a chapter."""
    if args.kind == "nbgrader":
        release.for_nbgrader(args.chapter, args.out)
    else:
        release.release(args.chapter, args.out, args.with_checks)
    return 0


def do_verify(args: argparse.Namespace) -> int:
    """Prove the checks."""
    chapters = tuple(CHAPTERS) if args.chapter is None else (args.chapter,)
    if args.chapter is not None and args.only:
        of_chapter(args.only, args.chapter)
    return 1 if verify.verify(chapters, args.only, args.unsafe, args.seeds) else 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = parser().parse_args(argv)
    try:
        return args.do(args)
    except Refused as refused:
        print(f"grader: {plain(str(refused))}", file=sys.stderr)
        return 2
    except run.Interrupted as stopped:
        print(f"grader: {plain(str(stopped))}", file=sys.stderr)
        return 130
    except pool.NotReady as broken:
        print(f"grader: {broken}. What was graded is kept; --resume goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("grader: stopped", file=sys.stderr)
        return 130
    except OSError as error:
        print(
            f"grader: {plain(str(error))}: check the folder, its rights and the space left", file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
