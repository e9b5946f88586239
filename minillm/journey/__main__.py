"""The command `python -m minillm.journey`: reads its arguments, runs the stages, writes the page."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import hub
from ..engine import resume
from ..hub.families import read_config
from ..train import NonFinite
from ..transformer import Transformer
from ..worlds.own import BadFile, open_text, read_preferences, read_questions, read_task
from .stages import SCALES, Journey, travel_own, travel_town

BY = "minillm.journey"      # whose models, and no others, may be written over
BESIDE = 3_000_000          # bytes of the page and the tokenizer, generously
MOST_STEPS = 10**9


def write_page(journey: Journey, path: Path, subtitle: str, stopped: str = "") -> None:
    """One self-contained HTML page with every stage's scores, curve and samples."""
    from jinja2 import Environment, FileSystemLoader

    from ..show.figures import line, smooth, svg
    for stage in journey.stages:
        if stage.curve:
            x, y, xlabel, ylabel = stage.curve
            y = smooth(y) if len(y) > 20 else y
            stage.figure = svg(
                line(x, y, xlabel, ylabel),
                f"{ylabel} against {xlabel}: from {y[0]:.3g} at the start to {y[-1]:.3g} at the end")
    environment = Environment(loader=FileSystemLoader(Path(__file__).parents[1] / "show"), autoescape=True)
    seconds = sum(s.seconds for s in journey.stages)
    footer = (f"Seed {journey.seed}; {journey.device}; PyTorch {torch.__version__}; "
              f"Python {platform.python_version()}; {platform.machine()}, "
              f"{os.cpu_count()} cores; {seconds:.0f} seconds in all.")
    html = environment.get_template("journey.html").render(
        stages=journey.stages, subtitle=subtitle, verdict=journey.verdict, stopped=stopped, footer=footer)
    beside = path.with_name(f".minillm-{path.name}")
    try:
        beside.write_text(html, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check(args: argparse.Namespace, config) -> None:
    """Raise BadFile for arguments that cannot be used, before anything is read, trained or written."""
    if not 0 <= args.seed < 2**63:
        raise BadFile(f"--seed is {args.seed}: give a whole number from 0 to 2**63 - 1")
    if args.steps is not None and not 1 <= args.steps <= MOST_STEPS:
        raise BadFile(f"--steps is {args.steps}: give 1 to {MOST_STEPS}")
    try:
        _check_out(Path(args.out))
        folder = hub.SHIPPED.get(args.start) or Path(args.start or "")
        needed = _bytes_of(folder) if args.start else _bytes_at_first(config)
        resume.expect_room(Path(args.out), BESIDE + needed, "a model with its page")
    except BadFile:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links is a RuntimeError
        raise BadFile(f"--out: {error}") from None
    if args.task and not args.start:
        raise BadFile("--task: outcomes teach a model that is right now and then, and random weights never "
                      "are; name such a model in --from (FROM=tuned, build/journey that a journey kept, or a "
                      "checkpoint in Hugging Face's form)")
    if args.start and (context := _context_of(folder)) < 3:
        raise BadFile(f"--from: {args.start} has a context of {context} tokens; "
                      "give a model that reads 3 or more")


def _check_out(out: Path) -> None:
    """Every file that will be written must be new, or this command's own; and the disk must take one."""
    folder, page = out / "journey", out / "journey.html"
    for link in (out, *out.parents):
        if link.is_symlink() and not link.exists():
            raise BadFile(f"--out: {link} is a link to nothing; name another folder")
    above = next(above for above in (out, *out.resolve().parents) if above.exists())
    for name in (folder / "model.safetensors.index.json", *(above / part for part in out.parts)):
        with suppress(FileNotFoundError, NotADirectoryError):  # new: nothing is in its way
            name.lstat()  # OSError for a name that is too long, also where its folder is not there yet
    for place in (above, folder):
        try:
            if os.path.lexists(place):
                tempfile.TemporaryFile(dir=place).close()
        except OSError:
            raise BadFile(f"--out: {place} is not a folder that you may write; name another") from None
    template = (Path(__file__).parents[1] / "show" / "journey.html").read_bytes()
    title = template.split(b"<title>")[1].split(b"</title>")[0]
    if os.path.lexists(page) and not (page.is_file() and title in page.open("rb").read(4096)):
        raise BadFile(f"--out: {page} is not a page that this command wrote; name another folder")
    hub.expect_own(folder, BY)
    others = [file.name for file in folder.iterdir() if file.name[0] != "."] if folder.exists() else []
    if others and not (folder / "config.json").exists():
        raise BadFile(f"--out: {folder} holds {others[0]}, which this command did not write; "
                      "name another folder")


def _bytes_at_first(config) -> int:
    """Bytes of a model with random weights."""
    with torch.device("meta"):
        return 4 * Transformer(config, seed=None).count_parameters()


def _bytes_of(folder: Path) -> int:
    """Bytes, as float32, of a folder's weights. 0 where there are none: `hub.load` says what is wrong."""
    config = folder / "config.json"
    if not config.is_file():  # reading a pipe would wait for its other end
        return 0
    try:
        halves = "float16" in config.read_text(encoding="utf-8")  # bfloat16, too
        return sum(file.stat().st_size for file in folder.glob("model*.safetensors")) * (2 if halves else 1)
    except (OSError, ValueError):
        return 0


def _context_of(folder: Path) -> float:
    """How many tokens a model reads; inf where `hub.load` will say what is wrong with it."""
    try:
        config = folder / "config.json"
        return read_config(config).context if config.is_file() else float("inf")
    except (OSError, ValueError):
        return float("inf")


def _rescue(journey: Journey) -> str:
    """Where the model is, when its own folder did not take it."""
    if journey.model is None:
        return "There was no model yet."
    try:
        elsewhere = tempfile.mkdtemp(prefix="journey-")
        hub.save(journey.model, journey.tokenizer, elsewhere, by=BY)
        return f"The model is in {elsewhere} for now: move it to a disk with room."
    except OSError as error:
        return f"The temporary folder did not take the model either ({error}): it is lost."


def _shown(path: str) -> str:
    """A name for the page, which is UTF-8; a file's name may be any bytes."""
    return path.encode("utf-8", "replace").decode("utf-8")


def write_summary(journey: Journey, path: Path, subtitle: str, stopped: str = "") -> None:
    """All that the page shows, as JSON; and gold, right and kl on the reported questions, by policy.

    The policies are imitation, ppo, dpo and kept.
    """
    summary = {"subtitle": subtitle,
               "seed": journey.seed,
               "device": str(journey.device),
               "torch": torch.__version__,
               "verdict": journey.verdict,
               "stopped": stopped,
               "seconds": sum(s.seconds for s in journey.stages),
               "stages": [{name: value for name, value in asdict(s).items() if name != "figure"}
                          for s in journey.stages],
               **journey.policies}
    beside = path.with_name(f".minillm-{path.name}")
    try:
        beside.write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """The command.

    Returns 0; 2 for input that cannot be used; 130 after Ctrl-C, with what was learned kept; 1 if
    training broke.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # arrows and other scripts, on a terminal that is not UTF-8 too
            stream.reconfigure(encoding="utf-8", errors="replace")
    parser = argparse.ArgumentParser(
        prog="journey",
        description="One small model from random weights through every stage that the package has.")
    parser.error = lambda message: parser.exit(2, f"journey: {_one_line(message)} (see --help)\n")
    parser.add_argument("--seed", type=int, default=0,
                        help="draws of weights, batches and answers (default 0); the town stays the same")
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu",
                        help="cpu: minutes on two cores; gpu: a larger model, longer")
    parser.add_argument("--from", dest="start", metavar="base|tuned|FOLDER",
                        help="start from a shipped model, or from a folder that a journey kept")
    parser.add_argument("--text", metavar="FILE", help="your own text, UTF-8, in place of the town")
    parser.add_argument("--qa", metavar="FILE.jsonl",
                        help='your own questions: {"question": …, "answer": …} a line')
    parser.add_argument("--task", metavar="FILE.jsonl",
                        help='your own task, with --from: {"question": …, "answer": a number, a word or a '
                             "list, which is a set} a line; chains are learned from outcomes alone")
    parser.add_argument("--prefs", metavar="FILE.jsonl",
                        help='your own preferences: {"prompt": …, "chosen": …, "rejected": …} a line')
    parser.add_argument("--out", default="build", metavar="FOLDER",
                        help="where the page and the model go (default build)")
    parser.add_argument("--steps", type=int, help="pretraining steps, in place of the scale's")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value in ("", []):  # [] is what argparse makes of "--"
            name = "from" if name == "start" else name
            parser.error(f"--{name} is empty: give a value, or leave --{name} out")
    scale = SCALES[args.scale]
    if args.steps is not None and args.steps >= 1:
        scale = replace(scale, steps=args.steps, tuning_steps=min(scale.tuning_steps, args.steps))
    out = Path(args.out)
    model_folder, page = out / "journey", out / "journey.html"
    journey = Journey(scale, args.seed, progress=not args.quiet)
    files = (("text", args.text), ("qa", args.qa), ("task", args.task), ("prefs", args.prefs))
    names = {key: _shown(os.path.basename(path)) for key, path in files if path}
    start = f"starting from {_shown(args.start)}." if args.start else "from random weights."
    subtitle = f"On {' and '.join(names.values()) or 'the town'}, {start}"

    def keep(stopped: str = "") -> None:
        saved = False
        try:
            out.mkdir(parents=True, exist_ok=True)
            if journey.model is not None:
                hub.save(journey.model, journey.tokenizer, model_folder, by=BY)
                saved = True
                write_summary(journey, model_folder / "summary.json", subtitle, stopped)
            write_page(journey, page, subtitle, stopped)
        except (OSError, ValueError) as error:  # the disk has filled up meanwhile
            where = f"The model is in {model_folder}." if saved else _rescue(journey)
            raise BadFile(f"{error}. {where}") from None

    try:
        check(args, scale.config)
        text = open_text(args.text) if args.text else None
        rows = read_questions(args.qa) if args.qa else None
        task = read_task(args.task) if args.task else None
        preferred = read_preferences(args.prefs) if args.prefs else None
        if not names:
            travel_town(journey, args.start)
        else:
            travel_own(journey, text, rows, preferred, args.start, names, task)
        keep()
    except (BadFile, OSError) as error:
        print(f"journey: {_one_line(error)}", file=sys.stderr)
        return 2
    except ValueError as error:
        if not args.start:  # on our own first weights it would be a bug, which is to be seen
            raise
        print(f"journey: --from: {args.start} cannot learn this: {_one_line(error)}", file=sys.stderr)
        return 2
    except NonFinite as error:
        print(f"journey: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        done = f"Stopped after {len(journey.stages)} finished stage{'' if len(journey.stages) == 1 else 's'}."
        if journey.model is not None:
            try:
                keep(done)
            except BadFile as error:
                print(f"\njourney: {done} {_one_line(error)}", file=sys.stderr)
                return 130
            print(f"\n{done} The model as it is: {model_folder}; the page: {page}. "
                  f"Go on with FROM={model_folder}",
                  file=sys.stderr)
        else:
            print("\nStopped before there was a model; nothing was written.", file=sys.stderr)
        return 130
    print(f"\n{journey.verdict}".rstrip())
    print(f"\nThe page: {page}   The model: {model_folder}")
    return 0


def _one_line(message) -> str:
    """A file's name may hold a line's end."""
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
